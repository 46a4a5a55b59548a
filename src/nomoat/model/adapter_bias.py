"""Biases of PEFT folders: what an adapter adds to the base's, whichever of peft's two forms keeps it.

``bias="all"`` and ``"lora_only"`` train the base's own biases and keep them whole; ``lora_bias`` gives every B one of
its own, which is scaled as the update is (peft's ``LoraConfig``). Here a bias is a difference to the base's, unscaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nomoat.core.errors import UsageError
from nomoat.formats.weights import Floats
from nomoat.model.adapters import Adapter, adaptable, is_embedding
from nomoat.model.decoder import Decoder
from nomoat.model.delta import Delta
from nomoat.model.frozen import FrozenWeight
from nomoat.model.linear import linears_of

_PREFIX = "base_model.model."


def biases_of(decoder: Decoder) -> dict[str, Tensor]:
    """The biases (out,) of a decoder's linear layers, by module."""
    return {linear.name: linear.bias for linear in linears_of(decoder) if linear.bias is not None}


def take_whole(deltas: dict[str, Delta], biases: Mapping[str, Floats], decoder: Decoder) -> str | None:
    """Put biases that take the base's place into ``deltas``; return the first module that has none of that size.

    A module with a bias alone gets factors of rank 1 that add nothing, and a DoRA's the magnitude that changes nothing.
    """
    theirs, dora = biases_of(decoder), any(delta.magnitude is not None for delta in deltas.values())
    for module, values in biases.items():
        if module not in theirs or tuple(theirs[module].shape) != values.shape:
            return module
        change = torch.from_numpy(np.array(values)) - theirs[module]
        if bool(change.any()):
            delta = deltas[module] = deltas.get(module) or _idle(adaptable(decoder)[module], dora)
            delta.bias = change if delta.bias is None else delta.bias + change
    return None


def _idle(weight: FrozenWeight, dora: bool) -> Delta:
    out_dim, in_dim = weight.shape
    magnitude = nn.Parameter(weight.expand().norm(dim=1)) if dora else None
    return Delta(nn.Parameter(torch.zeros(1, in_dim)), nn.Parameter(torch.zeros(out_dim, 1)), 1.0, magnitude)


def peft_form(adapter: Adapter, base: Decoder | None) -> tuple[dict[str, Any], dict[str, Floats]]:
    """What an adapter's biases add to ``adapter_config.json``, and their tensors.

    ``lora_bias`` where peft has it; beside DoRA or embeddings, where it has not, the biases are kept whole, which
    needs the ``base``'s. Raises ``UsageError`` where the base has none.
    """
    if all(delta.bias is None for delta in adapter.deltas.values()):
        return {"bias": "none"}, {}
    if all(_may_have_own(module, delta) for module, delta in adapter.deltas.items()):
        own = {f"{_PREFIX}{module}.lora_B.bias": _own(delta) for module, delta in adapter.deltas.items()}
        return {"bias": "none", "lora_bias": True}, own
    theirs = {} if base is None else biases_of(base)
    whole = {}
    for module, delta in adapter.deltas.items():
        if delta.bias is None:
            continue
        if module not in theirs:
            raise UsageError(
                f"{adapter.name!r} gives {module} a bias, the base has none, and peft keeps no other beside DoRA or "
                "embeddings",
                hint="serve the adapters as a stack: BASE+ONE+OTHER",
            )
        whole[f"{_PREFIX}{module}.base_layer.bias"] = (theirs[module] + delta.bias).detach().numpy()
    return {"bias": "lora_only"}, whole


def _may_have_own(module: str, delta: Delta) -> bool:
    return delta.magnitude is None and not is_embedding(module) and delta.scaling != 0.0


def _own(delta: Delta) -> Floats:
    if delta.bias is None:
        return np.zeros(delta.lora_B.shape[0], np.float32)
    own: Floats = (delta.bias.detach() / delta.scaling).numpy()
    return own
