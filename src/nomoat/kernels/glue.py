"""The small operations between the matrix products, forward and backward, saving as little as they can.

PyTorch's own versions keep every intermediate for the backward pass; at 1,024 tokens a step those intermediates
are most of a training step's memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

_GELU_TANH_INNER = 0.7978845608028654  # sqrt(2 / pi)
_GELU_TANH_CUBIC = 0.044715


class _RmsNorm(Function):
    """y = x / rms(x) * weight (Zhang & Sennrich 2019, eq. 4). Saves x and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True).add_(eps))  # (..., 1)
        ctx.save_for_backward(x, inverse, weight)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, inverse, weight = ctx.saved_tensors
        scaled = grads[0] * weight
        along = (scaled * x).mean(-1, keepdim=True).mul_(inverse.square())  # the part that only changes rms(x)
        return torch.addcmul(scaled, x, along, value=-1).mul_(inverse), None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension; ``weight`` is frozen. Shapes (..., D), (D,) -> (..., D)."""
    out: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _Rotary(Function):
    """A rotation's gradient is the rotation back: nothing but the angles is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(grads[0], cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    out = torch.empty_like(x)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    out[..., 2 * half :] = x[..., 2 * half :]
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
        return activate(gate, activation).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        grad = grads[0]
        grad_up = activate(gate, ctx.activation).mul_(grad)
        grad_gate = _activation_slope(gate, ctx.activation).mul_(up).mul_(grad)
        return grad_gate, grad_up, None


def activate(gate: Tensor, activation: str) -> Tensor:
    """``silu`` or the tanh form of GELU, as a new tensor."""
    return F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")


def _activation_slope(x: Tensor, activation: str) -> Tensor:
    if activation == "silu":
        s = torch.sigmoid(x)
        return s.addcmul(s * (1 - s), x)
    inner = x.pow(3).mul_(_GELU_TANH_CUBIC).add_(x).mul_(_GELU_TANH_INNER)
    t = torch.tanh(inner)
    d_inner = x.square().mul_(3 * _GELU_TANH_CUBIC).add_(1).mul_(_GELU_TANH_INNER)
    return (1 - t.square()).mul_(d_inner).mul_(x).add_(1 + t).mul_(0.5)


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """``act(gate) * up`` (Shazeer 2020, GLU variants). (T, F), (T, F) -> (T, F)."""
    out: Tensor = _Gated.apply(gate, up, activation)  # type: ignore[no-untyped-call]
    return out
