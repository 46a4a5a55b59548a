"""What a training step keeps for its backward pass, and what it makes again."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Recompute = Literal["least", "mlp", "layer"]

# From the most memory and least work to the reverse. "least" makes again what costs one pass over memory: the norms'
# outputs, and the product of the gate. "mlp" also runs the gate and up projections again, "layer" whole layers (Chen
# et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174). The results are the same bits.
POLICIES: Final[tuple[Recompute, ...]] = ("least", "mlp", "layer")

Recipe = Callable[[], Tensor]


class Recipes:
    """Inside the block, whoever saves a tensor that has a recipe saves the recipe instead.

    A recipe must not hold its own tensor, and gives the same values every time. Under the policy "layer" everything
    is saved as usual, by the second run of the layer.
    """

    def __init__(self, policy: Recompute) -> None:
        self.policy = policy
        self._known: list[tuple[Tensor, Recipe]] = []
        self._active = policy != "layer" and torch.is_grad_enabled()
        self._hooks = saved_tensors_hooks(self._pack, _unpack)

    def __enter__(self) -> Recipes:
        if self._active:
            self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known.clear()
        if self._active:
            self._hooks.__exit__(kind, error, trace)

    def add(self, tensor: Tensor, recipe: Recipe) -> None:
        """From here to the end of the block, ``recipe`` stands for ``tensor``."""
        if self._active:
            self._known.append((tensor, recipe))

    def _pack(self, saved: Tensor) -> Tensor | Recipe:
        return next((recipe for tensor, recipe in self._known if tensor is saved), saved)


def _unpack(saved: Tensor | Recipe) -> Tensor:
    return saved if isinstance(saved, Tensor) else saved()


class GateAndUp:
    """Gate and up of an MLP, made once more in backward; let go when ``last_up`` has handed out the second."""

    def __init__(self, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        self._make = make
        self._made: tuple[Tensor, Tensor] | None = None

    @classmethod
    def kept(cls, gate: Tensor, up: Tensor) -> GateAndUp:
        """The two as they are."""
        held = gate.detach(), up.detach()
        return cls(lambda: held)

    def both(self) -> tuple[Tensor, Tensor]:
        """(T, F) x 2."""
        if self._made is None:
            with torch.enable_grad():  # the projections choose their arithmetic by it
                gate, up = self._make()
            self._made = gate.detach(), up.detach()
        return self._made

    def gate(self) -> Tensor:
        """(T, F)."""
        return self.both()[0]

    def last_up(self) -> Tensor:
        """(T, F)."""
        up, self._made = self.both()[1], None
        return up
