"""Causal attention over packed documents in torch operations, for any device: the twin of ``csrc/attention.cpp``.

No padding reaches the matrix products around attention. Inside, documents of similar length are laid side by side
so that one call serves many; a right-padded causal query never sees padding that matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_WASTE = 1.3  # how much padded work a shared call may do per useful work
_QUERY_CHUNK = 512  # rows of scores held at once where a mask or a soft cap forbids the plain causal kernel


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention inside each document. q (T, H, C), k and v (T, K, C), sum(lengths) == T -> (T, H, C).

    ``window``: a token sees itself and the ``window - 1`` before it. Memory is linear in the document's length.
    """
    groups = _groups(lengths)
    if len(groups) == 1 and len(groups[0]) == 1:
        return _attend(q[None], k[None], v[None], scale, window, softcap)[0]
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    parts, order = [], []
    for group in groups:
        longest = max(lengths[i] for i in group)
        if longest == 0:
            continue
        rows = _rows(group, starts, lengths, longest).to(q.device)  # (B, longest)
        side_by_side = (_take(q, rows), _take(k, rows), _take(v, rows))
        out = _attend(*side_by_side, scale, window, softcap)  # (B, longest, H, C)
        for slot, i in enumerate(group):
            parts.append(out[slot, : lengths[i]])
            order.append(i)
    places = torch.cat([torch.arange(starts[i], starts[i] + lengths[i]) for i in order])
    return torch.cat(parts).index_select(0, torch.argsort(places).to(q.device))


def attention_after(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    starts: Sequence[int],
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The last ``lengths`` tokens of each document over its ``starts + lengths`` keys, one document at a time.

    q (T, H, C), k and v (sum(starts) + T, K, C) -> (T, H, C).
    """
    out, first, end = torch.empty_like(q), 0, 0
    for length, start in zip(lengths, starts):
        queries, keys = slice(first, first + length), slice(end, end + start + length)
        first, end = queries.stop, keys.stop
        mask = causal_mask(start, start + length, 0, start + length, window, q.device)
        left, right, values = (x.transpose(0, 1)[None] for x in (q[queries], k[keys], v[keys]))  # (1, heads, tokens, C)
        out[queries] = masked_attention(left, right, values, mask, scale, softcap)[0].transpose(0, 1)
    return out


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float | None) -> Tensor:
    """(B, H, Lq, C), (B, K, Lk, C) x 2 -> (B, H, Lq, C)."""
    if softcap is not None:
        return soft_capped_attention(q, k, v, mask, scale, softcap)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)


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


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """(B, L, H, C), (B, L, K, C) x 2 -> (B, L, H, C)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    length = q.shape[2]
    if window is not None and window >= length:
        window = None
    if softcap is not None:
        return _soft_capped(q, k, v, scale, window, softcap).transpose(1, 2)
    if window is None:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        return out.transpose(1, 2)
    pieces = []
    for start in range(0, length, _QUERY_CHUNK):
        stop, first = min(start + _QUERY_CHUNK, length), max(0, start - window + 1)
        mask = causal_mask(start, stop, first, stop, window, q.device)
        pieces.append(
            F.scaled_dot_product_attention(
                q[:, :, start:stop],
                k[:, :, first:stop],
                v[:, :, first:stop],
                attn_mask=mask,
                scale=scale,
                enable_gqa=True,
            )
        )
    return torch.cat(pieces, dim=2).transpose(1, 2)


def causal_mask(
    q_start: int, q_stop: int, k_start: int, k_stop: int, window: int | None, device: torch.device
) -> Tensor:
    """True where the query at a position may see the key at another. (queries, keys)."""
    queries = torch.arange(q_start, q_stop, device=device)[:, None]
    keys = torch.arange(k_start, k_stop, device=device)[None]
    mask = keys <= queries
    return mask if window is None else mask & (keys > queries - window)


def _soft_capped(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float) -> Tensor:
    """Scores bent by tanh (Gemma 2 report, section 2), a chunk of queries at a time, recomputed backward."""
    pieces = []
    for start in range(0, q.shape[2], _QUERY_CHUNK):
        stop = min(start + _QUERY_CHUNK, q.shape[2])
        first = 0 if window is None else max(0, start - window + 1)
        mask = causal_mask(start, stop, first, stop, window, q.device)
        arguments = (q[:, :, start:stop], k[:, :, first:stop], v[:, :, first:stop], mask, scale, softcap)
        needs_grad = torch.is_grad_enabled() and q.requires_grad
        piece = (
            checkpoint(soft_capped_attention, *arguments, use_reentrant=False)
            if needs_grad
            else soft_capped_attention(*arguments)
        )
        pieces.append(piece)
    return torch.cat(pieces, dim=2)


def soft_capped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float) -> Tensor:
    """softmax(cap * tanh(q.k * scale / cap)) v under a mask. (B, H, Lq, C), (B, K, Lk, C) x 2 -> (B, H, Lq, C)."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap)) * softcap
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1) @ v
