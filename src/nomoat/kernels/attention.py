"""Causal attention over packed documents: a token sees its own document only, and positions restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function

from nomoat.kernels import attention_native, attention_reference, quick
from nomoat.kernels.attention_reference import Shape


class _Packed(Function):
    """Keeps its inputs, its output and two numbers a token and head; the weights are made again in backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
        out, peaks = attention_native.forward(q, k, v, shape, on_tiles=quick.are_quick())
        ctx.save_for_backward(q, k, v, out, peaks)
        ctx.shape = shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, peaks = ctx.saved_tensors
        return *attention_native.backward(q, k, v, out, peaks, grads[0], ctx.shape), None


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    starts: Sequence[int] = (),
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention inside each document. q (T, H, C), k and v (sum(starts) + T, K, C), sum(lengths) == T -> (T, H, C).

    ``starts``: how many keys of each document stand before its first query (default none); a document's keys lie side
    by side. A token gets the bits that it gets with the whole document at once; without the whole there is no gradient.
    ``window``: a token sees itself and the ``window - 1`` before it. ``softcap`` bends the scores to
    ``softcap * tanh(score / softcap)``. Memory is linear in the documents' lengths.
    """
    shape = Shape(tuple(lengths), scale, window, softcap, tuple(starts))
    if not attention_native.usable(q, k, v):
        return attention_reference.packed_attention(q, k, v, shape)
    out: Tensor = _Packed.apply(q, k, v, shape)  # type: ignore[no-untyped-call]
    return out
