"""Attention of new tokens: packed documents, one token a sequence, or a chunk after a cached prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from nomoat.kernels.attention import attention_after, packed_attention
from nomoat.kernels.attention_reference import masked_attention
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
    mask = visible[:, None, None]
    return masked_attention(q[:, :, None], keys, values, mask, config.softmax_scale, config.attn_softcap)[:, :, 0]


def _after_prefix(q: Tensor, layout: Layout, layer: int, config: ModelConfig, cache: KVCache) -> Tensor:
    """Several new tokens after a cached prefix; segments of one token all together. (T, H, C) -> (T, H, C)."""
    single = [length == 1 and start > 0 for length, start in zip(layout.lengths, layout.starts)]
    if not any(single):
        return _segments(q, layout, layer, config, cache)
    rows = torch.tensor([one for one, length in zip(single, layout.lengths) for _ in range(length)])
    out = torch.empty_like(q)
    out[rows] = _decode(q[rows], layout.some(single), layer, config, cache)
    if not rows.all():
        rest = layout.some([not one for one in single])
        out[~rows] = _segments(q[~rows], rest, layer, config, cache)
    return out


def _segments(q: Tensor, layout: Layout, layer: int, config: ModelConfig, cache: KVCache) -> Tensor:
    """All new tokens of each segment in one call. (T, H, C) -> (T, H, C)."""
    keys, values = cache.read_flat(layer, layout)
    return attention_after(
        q,
        keys,
        values,
        layout.lengths,
        layout.starts,
        scale=config.softmax_scale,
        window=config.layers[layer].window,
        softcap=config.attn_softcap,
    )
