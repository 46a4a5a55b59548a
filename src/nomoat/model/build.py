"""A decoder from stored weights: every module takes its matrix by name and checks its shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.weights import Weights
from nomoat.kernels import blocks
from nomoat.model.config import ModelConfig
from nomoat.model.decoder import Attention, Block, Decoder, Mlp, RMSNorm
from nomoat.model.frozen import FrozenWeight
from nomoat.model.linear import Embedding, Linear

Place = Callable[[str], str]  # the checkpoint's parameter name -> the name in the file


class Builder:
    """Takes tensors from ``weights`` for a decoder of ``config``.

    ``pairs``: q and k rows are stored for neighbouring-pair rotation and are put back into halves.
    ``norm_offset``: what a stored norm weight lacks (1 for Gemma's Hugging Face folders).
    """

    def __init__(self, weights: Weights, config: ModelConfig, place: Place, *, pairs: bool, norm_offset: float) -> None:
        self._weights, self._config, self._place = weights, config, place
        self._pairs, self._norm_offset = pairs, norm_offset
        self._names = set(weights.names())

    def decoder(self) -> Decoder:
        """Build all of it. Raises ``ShapeMismatch`` naming the first tensor that is missing or wrong."""
        c = self._config
        embed = Embedding("model.embed_tokens", self._matrix("model.embed_tokens", c.vocab_size, c.d_model))
        tied = c.tied or self._place("lm_head.weight") not in self._names
        head_weight = embed.weight if tied else self._matrix("lm_head", c.vocab_size, c.d_model)
        head = Linear("lm_head", head_weight)
        layers = [self._block(i) for i in range(c.n_layers)]
        return Decoder(c, embed, layers, self._norm("model.norm", c.d_model), head)

    def _block(self, index: int) -> Block:
        c, prefix = self._config, f"model.layers.{index}"
        attention = Attention(c, index, {**self._projections(prefix), **self._qk_norms(prefix)})
        mlp = Mlp(c, self._mlp_parts(prefix))
        names = {
            "pre": ("input_layernorm", "post_attention_layernorm"),
            "sandwich": (
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ),
            "post": ("post_attention_layernorm", "post_feedforward_layernorm"),
        }[c.norms]
        return Block(c, attention, mlp, {name: self._norm(f"{prefix}.{name}", c.d_model) for name in names})

    def _projections(self, prefix: str) -> dict[str, Linear | RMSNorm]:
        c = self._config
        n_q, n_kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        sizes = {"q_proj": n_q, "k_proj": n_kv, "v_proj": n_kv}
        if c.fused_projections:
            sizes = {"qkv_proj": n_q + 2 * n_kv}
        parts: dict[str, Linear | RMSNorm] = {
            name: self._linear(f"{prefix}.self_attn.{name}", size, c.d_model) for name, size in sizes.items()
        }
        parts["o_proj"] = self._linear(f"{prefix}.self_attn.o_proj", c.d_model, n_q)
        return parts

    def _qk_norms(self, prefix: str) -> dict[str, RMSNorm]:
        c = self._config
        if c.qk_norm == "none":
            return {}
        full = c.qk_norm == "full"
        sizes = {
            "q_norm": c.n_heads * c.head_dim if full else c.head_dim,
            "k_norm": c.n_kv_heads * c.head_dim if full else c.head_dim,
        }
        return {name: self._norm(f"{prefix}.self_attn.{name}", size) for name, size in sizes.items()}

    def _mlp_parts(self, prefix: str) -> dict[str, Linear]:
        c = self._config
        inner = {"gate_up_proj": 2 * c.d_ff} if c.fused_projections else {"gate_proj": c.d_ff, "up_proj": c.d_ff}
        parts = {name: self._linear(f"{prefix}.mlp.{name}", size, c.d_model) for name, size in inner.items()}
        parts["down_proj"] = self._linear(f"{prefix}.mlp.down_proj", c.d_model, c.d_ff)
        return parts

    def _linear(self, module: str, out_dim: int, in_dim: int) -> Linear:
        bias_name = self._place(f"{module}.bias")
        bias = self._vector(bias_name, out_dim) if bias_name in self._names else None
        weight = self._matrix(module, out_dim, in_dim)
        if self._pairs and module.endswith(("q_proj", "k_proj")):
            order = halves_from_pairs(out_dim, self._config.head_dim)
            weight = FrozenWeight(weight.data[order].contiguous(), weight.type, in_dim)
            bias = None if bias is None else bias[order]
        return Linear(module, weight, bias)

    def _matrix(self, module: str, out_dim: int, in_dim: int) -> FrozenWeight:
        name = self._place(f"{module}.weight")
        self._check(name, (out_dim, in_dim))
        return FrozenWeight(blocks.from_view(self._weights.data(name)), self._weights.type(name), in_dim)

    def _norm(self, module: str, size: int) -> RMSNorm:
        weight = self._vector(self._place(f"{module}.weight"), size)
        return RMSNorm(weight + self._norm_offset if self._norm_offset else weight, self._config.norm_eps)

    def _vector(self, name: str, size: int) -> Tensor:
        self._check(name, (size,))
        return blocks.expand(blocks.from_view(self._weights.data(name)), self._weights.type(name))[0].clone()

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._names:
            raise ShapeMismatch(f"tensor {name!r} is missing", file=self._weights.path)
        if self._weights.shape(name) != shape:
            raise ShapeMismatch(
                f"tensor {name!r} has shape {self._weights.shape(name)}, the configuration says {shape}",
                file=self._weights.path,
            )


def halves_from_pairs(rows: int, head_dim: int) -> Tensor:
    """Row order that undoes llama.cpp's reordering of q and k: (head, C/2, 2) back to (head, 2, C/2)."""
    return torch.arange(rows).view(-1, head_dim // 2, 2).transpose(1, 2).reshape(-1)
