"""The small operations between the matrix products, forward and backward, saving as little as they can.

PyTorch's own versions keep every intermediate for the backward pass; at 1,024 tokens a step those intermediates are
most of a training step's memory. On the CPU each is one pass of a compiled kernel (``csrc/glue.cpp``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nomoat.kernels import glue_native, glue_reference
from nomoat.kernels.memory import empty


class _AddNorm(Function):
    """h = x + alpha * added, y = h / rms(h) * weight (Zhang & Sennrich 2019, eq. 4). Saves h and one number a row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor | None, alpha: float, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        tensors = (x, weight) if added is None else (x, added, weight)
        kernels = glue_native if glue_native.usable(*tensors) else glue_reference
        h, y, inverse = kernels.rms_norm(x, added, alpha, weight, eps)
        ctx.save_for_backward(h, inverse, weight)
        ctx.alpha, ctx.has_added = alpha, added is not None
        ctx.set_materialize_grads(False)
        return h, y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (h, inverse, weight), (beyond, grad) = ctx.saved_tensors, grads
        out = beyond
        if grad is not None:
            kernels = glue_native if glue_native.usable(grad, h) else glue_reference
            out = kernels.rms_norm_backward(grad, h, inverse, weight, beyond)
        if out is None or not ctx.has_added:
            return out, None, None, None, None
        return out, out if ctx.alpha == 1.0 else out * ctx.alpha, None, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension; ``weight`` is frozen. Shapes (..., D), (D,) -> (..., D)."""
    return add_norm(x, None, 1.0, weight, eps)[1]


def add_norm(x: Tensor, added: Tensor | None, alpha: float, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``h = x + alpha * added`` (x alone for None) and its norm; backward joins both gradients in one pass.

    (..., D), (..., D), (D,) -> (..., D) x 2.
    """
    h, y = _AddNorm.apply(x, added, alpha, weight, eps)  # type: ignore[no-untyped-call]
    return h, y


class _Add(Function):
    """x + alpha * added, in memory that is used again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return torch.add(x, added, alpha=alpha, out=empty(*x.shape, like=x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return grads[0], grads[0] if ctx.alpha == 1.0 else grads[0] * ctx.alpha, None


def add(x: Tensor, added: Tensor, alpha: float) -> Tensor:
    """``x + alpha * added`` of float32 tensors of one shape."""
    out: Tensor = _Add.apply(x, added, alpha)  # type: ignore[no-untyped-call]
    return out


class _Rotary(Function):
    """A rotation's gradient is the rotation back: nothing but the angles is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate(grads[0], cos, sin, back=True), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """``rotary`` without a gradient, or its inverse."""
    kernels = glue_native if glue_native.usable(x, cos, sin) else glue_reference
    out: Tensor = kernels.rotate(x, cos, sin, back=back)
    return out


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + half) of each head (Su et al. 2021). (T, H, head_dim), (T, 1, half) -> (T, H, head_dim).

    Where ``2 * half`` is less than ``head_dim`` the rest passes through (partial rotary).
    """
    out: Tensor = _Rotary.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return out


class _Gated(Function):
    """act(gate) * up; saves gate and up, recomputes the activation."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return gate_product(gate, up, activation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        kernels = glue_native if glue_native.usable(gate, up, grads[0]) else glue_reference
        return *kernels.gated_backward(gate, up, grads[0], ctx.activation), None


def gate_product(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """``gated`` without a gradient."""
    kernels = glue_native if glue_native.usable(gate, up) else glue_reference
    out: Tensor = kernels.gated(gate, up, activation)
    return out


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """``act(gate) * up`` (Shazeer 2020, GLU variants), act ``silu`` or ``gelu_tanh``. (T, F), (T, F) -> (T, F)."""
    out: Tensor = _Gated.apply(gate, up, activation)  # type: ignore[no-untyped-call]
    return out
