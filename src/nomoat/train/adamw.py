"""AdamW on a named set of parameters, its state as plain tensors.

Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2. The operations and their
order are those of ``torch.optim.AdamW``, so that the two agree to the last bit on the CPU; what this one adds is
a state that is a flat dictionary, fit for a safetensors file, and a learning-rate scale for each parameter.
Where there is a compiled kernel, it moves all parameters in one call, with the same operations; only its square root
is correctly rounded, which torch's is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from nomoat.kernels import glue_native


@dataclasses.dataclass(frozen=True, slots=True)
class AdamWOptions:
    """``lr_scale`` multiplies the rate of the parameters it names (LoRA+ raises ``lora_B``'s); others have 1."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    lr_scale: Mapping[str, float] = dataclasses.field(default_factory=dict)


class AdamW:
    """First and second moments of every parameter, and the update that uses them."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], options: AdamWOptions) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self.updates = 0
        self._mean = {name: torch.zeros_like(value.data) for name, value in self._parameters.items()}
        self._square = {name: torch.zeros_like(value.data) for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """Move every parameter that has a gradient, in place; ``lr`` is this step's rate."""
        self.updates += 1
        moving = {name: value for name, value in self._parameters.items() if value.grad is not None}
        gradients = [value.grad for value in moving.values() if value.grad is not None]
        if glue_native.usable(*moving.values(), *gradients):
            self._move_together(moving, lr)
            return
        for name, parameter in moving.items():
            if parameter.grad is not None:
                self._move(parameter, parameter.grad, self._mean[name], self._square[name], self._rate(name, lr))

    def _rate(self, name: str, lr: float) -> float:
        return lr * self._options.lr_scale.get(name, 1.0)

    def _move_together(self, moving: Mapping[str, torch.nn.Parameter], lr: float) -> None:
        own = self._options
        pieces = [
            glue_native.adamw_piece(
                parameter,
                self._mean[name],
                self._square[name],
                step=self._rate(name, lr) / (1 - own.beta1**self.updates),
                decay=1 - self._rate(name, lr) * own.weight_decay,
            )
            for name, parameter in moving.items()
        ]
        glue_native.adamw(pieces, own.beta1, own.beta2, own.eps, self.updates)

    def _move(self, value: Tensor, grad: Tensor, mean: Tensor, square: Tensor, lr: float) -> None:
        own = self._options
        if own.weight_decay:
            value.mul_(1 - lr * own.weight_decay)
        mean.lerp_(grad, 1 - own.beta1)
        square.mul_(own.beta2).addcmul_(grad, grad, value=1 - own.beta2)
        mean_bias = 1 - own.beta1**self.updates
        square_bias = 1 - own.beta2**self.updates
        root = (square.sqrt() / square_bias**0.5).add_(own.eps)
        value.addcdiv_(mean, root, value=-lr / mean_bias)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """The moments as ``mean.<parameter>`` and ``square.<parameter>``: the live tensors, not copies."""
        means = {f"mean.{name}": value for name, value in self._mean.items()}
        return means | {f"square.{name}": value for name, value in self._square.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Take over moments saved by ``state`` after that many updates. Raises ``KeyError`` on a missing one."""
        for name, value in self.state().items():
            value.copy_(state[name])
        self.updates = updates
