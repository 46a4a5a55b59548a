"""Causal attention over packed documents in torch operations, for any device: the twin of ``csrc/attention.cpp``.

No padding reaches the matrix products around attention. Inside, documents of similar length are laid side by side
so that one call serves many; a right-padded causal query never sees padding that matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_WASTE = 1.3  # how much padded work a shared call may do per useful work
_QUERY_CHUNK = 512  # rows of scores held at once where a mask or a soft cap forbids the plain causal kernel


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Documents by their lengths, and how scores are made of products; see ``attention.packed_attention``.

    ``starts``: how many keys of a document stand before its first query, where any do.
    """

    lengths: tuple[int, ...]
    scale: float
    window: int | None = None
    softcap: float | None = None
    starts: tuple[int, ...] = ()


def packed_attention(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """As ``attention.packed_attention``."""
    return _after(q, k, v, shape) if any(shape.starts) else _whole(q, k, v, shape)


def _whole(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """Every token of a document is a query. q (T, H, C), k and v (T, K, C) -> (T, H, C)."""
    lengths = shape.lengths
    groups = _groups(lengths)
    if len(groups) == 1 and len(groups[0]) == 1:
        return _attend(q[None], k[None], v[None], shape)[0]
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    parts, order = [], []
    for group in groups:
        longest = max(lengths[i] for i in group)
        if longest == 0:
            continue
        rows = _rows(group, starts, lengths, longest).to(q.device)  # (B, longest)
        out = _attend(_take(q, rows), _take(k, rows), _take(v, rows), shape)  # (B, longest, H, C)
        for slot, i in enumerate(group):
            parts.append(out[slot, : lengths[i]])
            order.append(i)
    places = torch.cat([torch.arange(starts[i], starts[i] + lengths[i]) for i in order])
    return torch.cat(parts).index_select(0, torch.argsort(places).to(q.device))


def _after(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """The last ``lengths`` tokens of each document over its ``starts + lengths`` keys, one document at a time."""
    out, first, end = torch.empty_like(q), 0, 0
    for length, start in zip(shape.lengths, shape.starts):
        queries, keys = slice(first, first + length), slice(end, end + start + length)
        first, end = queries.stop, keys.stop
        out[queries] = _attend(q[queries][None], k[keys][None], v[keys][None], shape)[0]
    return out


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Documents that share a call: sorted by length, a new group where padding would cost too much."""
    groups: list[list[int]] = []
    work = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups:
            longest = lengths[groups[-1][0]]
            padded = (len(groups[-1]) + 1) * longest**2
            if padded <= _WASTE * (work + lengths[i] ** 2):
                groups[-1].append(i)
                work += lengths[i] ** 2
                continue
        groups.append([i])
        work = lengths[i] ** 2
    return groups


def _rows(group: list[int], starts: list[int], lengths: Sequence[int], longest: int) -> Tensor:
    """Row numbers of each document, its last row repeated as padding. (B, longest)."""
    first = torch.tensor([starts[i] for i in group])[:, None]
    last = torch.tensor([max(lengths[i] - 1, 0) for i in group])[:, None]
    return first + torch.minimum(torch.arange(longest)[None], last)


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]``; through ``index_select``, whose backward is several times faster on a CPU."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])


def _attend(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """The last tokens of each document over all of it. q (B, L, H, C), k and v (B, L + before, K, C) -> as q."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    length, before = q.shape[2], k.shape[2] - q.shape[2]
    window = shape.window if shape.window is not None and shape.window < k.shape[2] else None
    if before == 0 and window is None and shape.softcap is None:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scale, enable_gqa=True)
        return out.transpose(1, 2)
    pieces = []
    for start in range(0, length, _QUERY_CHUNK):
        stop = min(start + _QUERY_CHUNK, length)
        first = 0 if window is None else max(0, before + start - window + 1)
        seen = slice(first, before + stop)
        mask = _causal_mask(range(before + start, before + stop), range(first, before + stop), window, q.device)
        pieces.append(_masked(q[:, :, start:stop], k[:, :, seen], v[:, :, seen], mask, shape))
    return torch.cat(pieces, dim=2).transpose(1, 2) if pieces else q.transpose(1, 2)


def _causal_mask(queries: range, keys: range, window: int | None, device: torch.device) -> Tensor:
    """True where the query at a position may see the key at another. (queries, keys)."""
    rows = torch.arange(queries.start, queries.stop, device=device)[:, None]
    columns = torch.arange(keys.start, keys.stop, device=device)[None]
    mask = columns <= rows
    return mask if window is None else mask & (columns > rows - window)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """(B, H, Lq, C), (B, K, Lk, C) x 2 -> (B, H, Lq, C). Bent scores are made again in backward."""
    if shape.softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=shape.scale, enable_gqa=True)
    if not (torch.is_grad_enabled() and q.requires_grad):
        return _soft_capped(q, k, v, mask, shape.scale, shape.softcap)
    out: Tensor = checkpoint(_soft_capped, q, k, v, mask, shape.scale, shape.softcap, use_reentrant=False)
    return out


def _soft_capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float) -> Tensor:
    """softmax(cap * tanh(q.k * scale / cap)) v under a mask (Gemma 2 report, section 2)."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap)) * softcap
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1) @ v
