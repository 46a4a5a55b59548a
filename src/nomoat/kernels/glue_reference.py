"""The glue in torch operations, for any device: the twins of ``csrc/glue.cpp``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_GELU_TANH_INNER = 0.7978845608028654  # sqrt(2 / pi)
_GELU_TANH_CUBIC = 0.044715


def rms_norm(
    x: Tensor, added: Tensor | None, alpha: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """h = x + alpha * added, its norm, and the inverse of each row's root mean square: (n, D), (n, D), (n, 1)."""
    h = x if added is None else torch.add(x, added, alpha=alpha)
    inverse = torch.rsqrt(h.square().mean(-1, keepdim=True).add_(eps))
    return h, (h * inverse).mul_(weight), inverse


def rms_norm_backward(grad: Tensor, h: Tensor, inverse: Tensor, weight: Tensor, beyond: Tensor | None) -> Tensor:
    """Gradient of h: through the norm, and ``beyond`` where h is also used elsewhere. (n, D)."""
    scaled = grad * weight
    along = (scaled * h).mean(-1, keepdim=True).mul_(inverse.square())  # the part that only changes rms(h)
    out = torch.addcmul(scaled, h, along, value=-1).mul_(inverse)
    return out if beyond is None else out.add_(beyond)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    """Turn the pairs of each head. (T, H, C), (T, 1, half) x 2 -> (T, H, C)."""
    half, sin = cos.shape[-1], -sin if back else sin
    first, second = x[..., :half], x[..., half : 2 * half]
    out = x.new_empty(x.shape)
    torch.sub(first * cos, second * sin, out=out[..., :half])  # not addcmul, which rounds once less than others do
    torch.add(second * cos, first * sin, out=out[..., half : 2 * half])
    out[..., 2 * half :] = x[..., 2 * half :]
    return out


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """``act(gate) * up``. (n, F) x 2 -> (n, F)."""
    active = F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")
    return active.mul_(up)


def gated_backward(gate: Tensor, up: Tensor, grad: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up. (n, F) x 3 -> (n, F) x 2."""
    grad_up = gated(gate, grad, activation)
    return _activation_slope(gate, activation).mul_(up).mul_(grad), grad_up


def _activation_slope(x: Tensor, activation: str) -> Tensor:
    if activation == "silu":
        s = torch.sigmoid(x)
        return s.addcmul(s * (1 - s), x)
    inner = x.pow(3).mul_(_GELU_TANH_CUBIC).add_(x).mul_(_GELU_TANH_INNER)
    t = torch.tanh(inner)
    d_inner = x.square().mul_(3 * _GELU_TANH_CUBIC).add_(1).mul_(_GELU_TANH_INNER)
    return (1 - t.square()).mul_(d_inner).mul_(x).add_(1 + t).mul_(0.5)
