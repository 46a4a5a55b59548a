"""A penalty that keeps a new adapter out of the directions that the stack under it listens to.

O-LoRA: Wang et al. 2023 (arXiv 2310.14152), section 3.2, equation 8: the squared entries of the products of the new
adapter's A with the old ones'. Here the old A's are an orthonormal basis of their span, so that the penalty does not
depend on how an old adapter shares its size between A and B.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nomoat.engine.names import Worn
from nomoat.model.adapters import Adapter


def orthogonality(adapter: Adapter, under: Worn, weight: float) -> Callable[[], Tensor]:
    """``weight`` times the squared norm of the part of each module's A that lies in the span of the stack's A's."""
    bases = {module: basis for module in adapter.deltas if (basis := _basis(under, module)) is not None}

    def penalty() -> Tensor:
        total = torch.zeros(())
        for module, basis in bases.items():
            total = total + (adapter.deltas[module].lora_A @ basis).square().sum()
        return weight * total

    return penalty


@torch.no_grad()
def _basis(under: Worn, module: str) -> Tensor | None:
    """Orthonormal columns (in, R) that span what the stack's adapters read at a module; ``None`` where they do not."""
    factors = []
    for adapter, strength in under:
        delta = adapter.deltas.get(module)
        if delta is not None and strength != 0.0:
            factors.append(delta.lora_A.detach())
            if delta.anchor is not None:
                factors.append(delta.anchor[0])
    if not factors:
        return None
    basis: Tensor = torch.linalg.qr(torch.cat(factors).T)[0]
    return basis
