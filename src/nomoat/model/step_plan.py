"""A decoder and its adapters as the compiled step reads them: addresses of tensors that are kept alive here."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import decode
from nomoat.model.config import ModelConfig
from nomoat.model.delta import Delta, Wearable

if TYPE_CHECKING:
    from nomoat.model.decoder import Block, Decoder, RMSNorm
    from nomoat.model.linear import Linear

_ALL = slice(None)
_Parts = list[tuple["Linear", slice]]  # of one layer: the module, and its rows, behind each of ``decode.PARTS``


class Plan:
    """A decoder for the library. Raises ``ShapeMismatch`` for tensors that it could not walk over."""

    def __init__(self, decoder: Decoder) -> None:
        c = decoder.config
        blocks = [cast("Block", block) for block in decoder.layers]
        self._held: list[Tensor] = []
        self.ropes = tuple(dict.fromkeys(layer.rope for layer in c.layers if layer.rope is not None))
        self.parts = [_parts(block, c) for block in blocks]
        self._layers = (decode.Layer * c.n_layers)(*(self._layer(i, block) for i, block in enumerate(blocks)))
        self.model = decode.Model(layers=self._layers, last_norm=self._norm(decoder.norm, c.d_model))
        _set_sizes(self.model, c)

    def _layer(self, index: int, block: Block) -> decode.Layer:
        c, layer = block.config, block.config.layers[index]
        layer_matrices = [self._matrix(linear, rows) for linear, rows in self.parts[index]]
        filled = decode.Layer(parts=(decode.Matrix * len(decode.PARTS))(*layer_matrices), window=layer.window or 0)
        if c.norms != "post":
            filled.before_attention = self._norm(block.input_layernorm, c.d_model)
            before_mlp = block.post_attention_layernorm if c.norms == "pre" else block.pre_feedforward_layernorm
            filled.before_mlp = self._norm(before_mlp, c.d_model)
        if c.norms != "pre":
            filled.after_attention = self._norm(block.post_attention_layernorm, c.d_model)
            filled.after_mlp = self._norm(block.post_feedforward_layernorm, c.d_model)
        if c.qk_norm != "none":
            q_heads, kv_heads = (c.n_heads, c.n_kv_heads) if c.qk_norm == "full" else (1, 1)
            filled.q_norm = self._norm(block.self_attn.q_norm, q_heads * c.head_dim)
            filled.k_norm = self._norm(block.self_attn.k_norm, kv_heads * c.head_dim)
        filled.rope = -1 if layer.rope is None else self.ropes.index(layer.rope)
        return filled

    def _matrix(self, linear: Linear, rows: slice) -> decode.Matrix:
        data = linear.weight.data[rows]
        bias = None if linear.bias is None else linear.bias[rows]
        self._held += [data] if bias is None else [data, bias]
        return decode.matrix(data, linear.weight.type, linear.weight.shape[1], bias)

    def _norm(self, norm: RMSNorm, width: int) -> int | None:
        self._held.append(norm.weight)
        return decode.floats(norm.weight, width)


def _set_sizes(model: decode.Model, c: ModelConfig) -> None:
    model.n_layers, model.d_model, model.d_ff = c.n_layers, c.d_model, c.d_ff
    model.n_heads, model.n_kv_heads, model.head_dim = c.n_heads, c.n_kv_heads, c.head_dim
    model.head_norm, model.gelu = decode.HEAD_NORMS.index(c.qk_norm), c.activation != "silu"
    model.norm_eps, model.softmax_scale = c.norm_eps, c.softmax_scale
    model.softcap, model.residual_scale = c.attn_softcap or 0.0, c.residual_scale


def _parts(block: Block, c: ModelConfig) -> _Parts:
    attention, mlp = block.self_attn, block.mlp
    if not c.fused_projections:
        names = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        return [(linear, _ALL) for linear in (*names, mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
    n_q, n_kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    cuts = [slice(0, n_q), slice(n_q, n_q + n_kv), slice(n_q + n_kv, n_q + 2 * n_kv)]
    halves = [slice(0, c.d_ff), slice(c.d_ff, 2 * c.d_ff)]
    return [
        *((attention.qkv_proj, rows) for rows in cuts),
        (attention.o_proj, _ALL),
        *((mlp.gate_up_proj, rows) for rows in halves),
        (mlp.down_proj, _ALL),
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterTable:
    """An adapter for the library: tables of ``decode.Lora`` (layers, parts), each with a sign.

    A PiSSA adapter's anchors are a second table that is subtracted.
    """

    tables: tuple[tuple[ctypes.Array[decode.Lora], float], ...]
    _sources: tuple[tuple[Delta, Tensor, Tensor, float, Tensor | None], ...]

    def current(self) -> bool:
        """Whether the adapter still holds the tensors that were read; their numbers may have changed."""
        return all(
            d.lora_A is a and d.lora_B is b and d.scaling == scaling and d.bias is bias
            for d, a, b, scaling, bias in self._sources
        )


def table_of(adapter: Wearable, plan: Plan) -> AdapterTable | None:
    """Describe an adapter. None for what the library does not do: DoRA, and tensors it could not walk over."""
    deltas = adapter.deltas
    if any(delta.magnitude is not None for delta in deltas.values()):
        return None
    factors = {name: (d.lora_A, d.lora_B, d.scaling, d.bias) for name, d in deltas.items()}
    anchors = {name: (*d.anchor, d.scaling, None) for name, d in deltas.items() if d.anchor is not None}
    try:
        tables = [(_table(factors, plan), 1.0)] + ([(_table(anchors, plan), -1.0)] if anchors else [])
    except ShapeMismatch:
        return None
    sources = [(d, d.lora_A, d.lora_B, d.scaling, d.bias) for d in deltas.values()]
    return AdapterTable(tuple(tables), tuple(sources))


_Factors = tuple[Tensor, Tensor, float, Tensor | None]  # lora_A, lora_B, scaling, bias


def _table(factors: Mapping[str, _Factors], plan: Plan) -> ctypes.Array[decode.Lora]:
    table = (decode.Lora * (len(plan.parts) * len(decode.PARTS)))()
    for i, parts in enumerate(plan.parts):
        for j, (linear, rows) in enumerate(parts):
            if linear.name in factors:
                a, b, scaling, bias = factors[linear.name]
                added = None if bias is None else bias[rows]
                table[i * len(decode.PARTS) + j] = decode.lora(a, b[rows], linear.weight.shape[1], scaling, added)
    return table
