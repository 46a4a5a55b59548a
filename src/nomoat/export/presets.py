"""Which block type each tensor of a model gets under a preset such as Q4_K_M.

Facts of llama.cpp's ``src/llama-quant.cpp`` (``llama_tensor_get_type_impl``, ``tensor_type_fallback``), whose presets
people know by name: matrices that hurt more get more bits, and rows that are not whole blocks a type that fits.
"""

from __future__ import annotations

import dataclasses
import re

from nomoat.formats.blocks import TYPES


@dataclasses.dataclass(frozen=True, slots=True)
class Preset:
    """``type`` is that of most matrices; ``better`` that of v and down in the layers that matter most; ``fused`` that
    of a fused qkv. ``file_type`` is the number that GGUF files carry in ``general.file_type``."""

    type: str
    file_type: int
    better: str = ""
    fused: str = ""


PRESETS: dict[str, Preset] = {
    "F32": Preset("F32", 0),
    "F16": Preset("F16", 1),
    "BF16": Preset("BF16", 32),
    "Q8_0": Preset("Q8_0", 7),
    "Q6_K": Preset("Q6_K", 18),
    "Q5_K_M": Preset("Q5_K", 17, better="Q6_K", fused="Q6_K"),
    "Q4_K_M": Preset("Q4_K", 15, better="Q6_K", fused="Q5_K"),
    "Q4_0": Preset("Q4_0", 2),
}
# Rows that are no whole blocks of 256: the next type in blocks of 32.
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")


def type_of(name: str, shape: tuple[int, ...], preset: str, *, n_layers: int, tied: bool) -> str:
    """The block type of the tensor ``name`` (its GGUF name). Vectors and norms are always float32."""
    if len(shape) < 2 or not name.endswith(".weight") or "norm" in name:
        return "F32"
    chosen = _wanted(name, shape[-1], PRESETS[preset], n_layers, tied)
    if shape[-1] % TYPES[chosen].block_size:
        chosen = _FALLBACK.get(chosen, "F16")
    return chosen if shape[-1] % TYPES[chosen].block_size == 0 else "F16"


def _wanted(name: str, cols: int, preset: Preset, n_layers: int, tied: bool) -> str:
    if TYPES[preset.type].block_size == 1:
        return preset.type
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return "Q8_0" if preset.type == "Q8_0" or cols % TYPES[preset.type].block_size else "Q6_K"
    found = _LAYER.fullmatch(name)
    if found is None:
        return preset.type
    if found[2] == "attn_qkv" and preset.fused:
        return preset.fused
    if found[2] in ("attn_v", "ffn_down") and preset.better and _matters(int(found[1]), n_layers):
        return preset.better
    return preset.type


def _matters(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers, and every third in between (``use_more_bits``)."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
