"""The shape of a decoder, whatever file it came from.

One flat dataclass; ``hf_config.py`` and ``gguf_config.py`` fill it from the two kinds of checkpoint, ``families.py``
says what each family does differently.
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding of one kind of layer (Su et al. 2021, RoFormer, section 3.2.2).

    ``factors`` divide the frequencies one by one (Llama 3's and LongRoPE's scaling become such factors);
    ``scale`` divides the positions (linear scaling); ``attention_factor`` multiplies cosine and sine.
    """

    theta: float
    dim: int
    scale: float = 1.0
    factors: tuple[float, ...] | None = None
    attention_factor: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What may differ from layer to layer: how far it looks back, in tokens, and how it rotates."""

    window: int | None = None
    rope: Rope | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and switches of one decoder.

    ``norms``: ``pre`` (before attention and MLP), ``sandwich`` (before and after), ``post`` (after only).
    ``qk_norm``: none, per ``head``, or over the ``full`` projection.
    """

    family: str
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    max_seq_len: int
    layers: tuple[Layer, ...]
    norm_eps: float
    tied: bool
    norms: str = "pre"
    qk_norm: str = "none"
    activation: str = "silu"
    fused_projections: bool = False
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attn_scale: float | None = None
    attn_softcap: float | None = None
    logit_softcap: float | None = None

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def softmax_scale(self) -> float:
        """What the scores ``q . k`` are multiplied with."""
        return self.attn_scale if self.attn_scale is not None else 1 / math.sqrt(self.head_dim)
