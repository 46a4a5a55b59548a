"""Attention of new tokens: packed documents, one token a sequence, or a chunk after a cached prefix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nomoat.kernels.attention import packed_attention
from nomoat.kernels.attention_reference import causal_mask, soft_capped_attention
from nomoat.model.cache import KVCache, Layout
from nomoat.model.config import ModelConfig


def attend(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, layer: int, config: ModelConfig, cache: KVCache | None
) -> Tensor:
    """q (T, H, C), k and v (T, K, C) of the new tokens -> (T, H, C); the cache is read and extended."""
    if cache is not None:
        cache.write(layer, layout, k, v)
    if cache is None or layout.fresh:
        return packed_attention(
            q,
            k,
            v,
            layout.lengths,
            scale=config.softmax_scale,
            window=config.layers[layer].window,
            softcap=config.attn_softcap,
        )
    if layout.decodes:
        return _decode(q, layout, layer, config, cache)
    return _after_prefix(q, layout, layer, config, cache)


def _decode(q: Tensor, layout: Layout, layer: int, config: ModelConfig, cache: KVCache) -> Tensor:
    """One new token a sequence, all in one call. (B, H, C) -> (B, H, C)."""
    longest = max(layout.starts) + 1
    keys, values = cache.read(layer, layout.slots, longest)  # (B, K, longest, C)
    at = torch.tensor(layout.starts)[:, None]
    places = torch.arange(longest)[None]
    visible = places <= at
    window = config.layers[layer].window
    if window is not None:
        visible &= places > at - window
    return _masked(q[:, :, None], keys, values, visible[:, None, None], config)[:, :, 0]


def _after_prefix(q: Tensor, layout: Layout, layer: int, config: ModelConfig, cache: KVCache) -> Tensor:
    """Several new tokens after a cached prefix, one segment at a time; those of one token all together."""
    out, offset = torch.empty_like(q), 0
    singles: list[tuple[int, int, int]] = []  # row, start, slot
    for length, start, slot in zip(layout.lengths, layout.starts, layout.slots):
        if length == 1 and start > 0:
            singles.append((offset, start, slot))
        else:
            keys, values = cache.read(layer, [slot], start + length)
            visible = causal_mask(start, start + length, 0, start + length, config.layers[layer].window, q.device)
            part = q[offset : offset + length].transpose(0, 1)[None]  # (1, H, length, C)
            out[offset : offset + length] = _masked(part, keys, values, visible, config)[0].transpose(0, 1)
        offset += length
    if singles:
        rows, starts, slots = zip(*singles)
        out[list(rows)] = _decode(q[list(rows)], Layout([1] * len(rows), starts, slots), layer, config, cache)
    return out


def _masked(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, config: ModelConfig) -> Tensor:
    """(B, H, Lq, C), (B, K, Lk, C) x 2 -> (B, H, Lq, C)."""
    if config.attn_softcap is not None:
        return soft_capped_attention(q, k, v, visible, config.softmax_scale, config.attn_softcap)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=config.softmax_scale, enable_gqa=True)
