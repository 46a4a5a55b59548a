"""transformers' own reading of a GGUF file, kept as a float32 folder: it takes a minute, so it is done once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import models


def hf_folder(name: str) -> Path:
    """A Hugging Face folder that transformers wrote after dequantizing the GGUF file itself."""
    target = models.CACHE / f"{name}-transformers"
    if target.exists():
        return target
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    source = models.path(name)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    temporary = target.with_suffix(".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if hasattr(model.config, "quantization_config"):  # it is not quantized any more
        del model.config.quantization_config
    model.config.save_pretrained(temporary)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
    temporary.rename(target)
    return target
