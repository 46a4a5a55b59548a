"""What each family of decoders does differently: one row a family.

To add a llama-shaped family, add a row here, its keys to ``hf_config.py`` or ``gguf_config.py`` if it has keys of
its own, and a case to ``tests/parity/test_decoder_vs_transformers.py``.
"""

from __future__ import annotations

import dataclasses
import difflib

from nomoat.core.errors import UnsupportedType


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """Traits that the checkpoint's configuration does not spell out.

    ``gguf_rotates_pairs``: llama.cpp's converter reorders the rows of q and k for neighbouring-pair rotation;
    reading puts them back. ``norm_adds_one``: the Hugging Face checkpoint stores the norm's weight minus one
    (GGUF stores it whole). ``scales_embeddings``: by the square root of the width.
    """

    norms: str = "pre"
    qk_norm: str = "none"
    activation: str = "silu"
    fused_projections: bool = False
    gguf_rotates_pairs: bool = False
    norm_adds_one: bool = False
    scales_embeddings: bool = False
    ties_by_default: bool = False


FAMILIES: dict[str, Family] = {
    "llama": Family(gguf_rotates_pairs=True),
    "mistral": Family(gguf_rotates_pairs=True),
    "qwen2": Family(),
    "qwen3": Family(qk_norm="head"),
    "gemma2": Family(
        norms="sandwich",
        activation="gelu_tanh",
        norm_adds_one=True,
        scales_embeddings=True,
        ties_by_default=True,
    ),
    "gemma3": Family(
        norms="sandwich",
        qk_norm="head",
        activation="gelu_tanh",
        norm_adds_one=True,
        scales_embeddings=True,
        ties_by_default=True,
    ),
    "phi3": Family(fused_projections=True),
    "olmo2": Family(norms="post", qk_norm="full"),
    "granite": Family(gguf_rotates_pairs=True),
    "smollm3": Family(gguf_rotates_pairs=True, ties_by_default=True),
}

# Names under which checkpoints announce a family, where it is not the family's own name.
HF_MODEL_TYPES = {"gemma3_text": "gemma3"}


def family_named(name: str, *, source: str) -> str:
    """The family that a checkpoint calls ``name``. Raises ``UnsupportedType`` with near matches."""
    family = HF_MODEL_TYPES.get(name, name)
    if family in FAMILIES:
        return family
    near = difflib.get_close_matches(name, FAMILIES, n=1)
    raise UnsupportedType(
        f"architecture {name!r} is not one we run" + (f" (nearest: {near[0]})" if near else ""),
        file=source,
        hint="families: " + ", ".join(FAMILIES),
    )
