"""Where llama.cpp keeps what a checkpoint calls by other names, and in which order of rows.

Facts of llama.cpp's converter (``convert_hf_to_gguf.py``): q and k of some families are reordered for rotation of
neighbouring pairs, and Mistral goes by the name of the architecture it shares.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nomoat.model.config import ModelConfig
from nomoat.model.families import FAMILIES
from nomoat.model.gguf_config import gguf_tensor_name

_SHARED_ARCHITECTURE = {"mistral": "llama"}


def architecture(config: ModelConfig) -> str:
    """``general.architecture`` of a GGUF file of this family."""
    return _SHARED_ARCHITECTURE.get(config.family, config.family)


def tensor_name(module: str, config: ModelConfig) -> str:
    """The GGUF name of a module's weight."""
    return gguf_tensor_name(f"{module}.weight", config.norms)


def row_order(module: str, rows: int, config: ModelConfig) -> Tensor | None:
    """Which of our rows (outputs of ``module``) stands at each place of the file; None where the order is ours."""
    if not FAMILIES[config.family].gguf_rotates_pairs or not module.endswith(("q_proj", "k_proj")):
        return None
    return torch.arange(rows).view(-1, 2, config.head_dim // 2).transpose(1, 2).reshape(-1)
