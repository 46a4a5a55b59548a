"""An update in fewer directions: the best approximation of each rank, and how much of the update it keeps.

Eckart and Young 1936: the truncated singular value decomposition. For a product of factors it is taken through a QR
of each factor, so that the (out, in) matrix is never formed.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nomoat.model.directions import top_directions
from nomoat.stack.update import Update

_EXACT_BELOW = 384  # smaller matrices: a full decomposition costs next to nothing
_SHARE_FOR_EXACT = 4  # so does one where more than a quarter of all directions is wanted


@dataclasses.dataclass(frozen=True, slots=True)
class Spectrum:
    """An update along its singular directions: U (out, k), s (k,) falling, V.T (k, in), double precision.

    ``energy`` is the square of the whole update's Frobenius norm, directions that are not held included.
    """

    u: Tensor
    s: Tensor
    vt: Tensor
    energy: float

    def kept(self, rank: int) -> float:
        """Share of the energy in the first ``rank`` directions; 1 for an update that is nothing."""
        if self.energy <= 0.0:
            return 1.0
        return min(1.0, float(self.s[:rank].square().sum()) / self.energy)

    def rank_for(self, share: float) -> int:
        """The smallest rank, at least 1, that keeps ``share`` of the energy; all held directions where none does."""
        if self.energy <= 0.0:
            return 1
        shares = self.s.square().cumsum(0) / self.energy
        enough = (shares >= share - 1e-12).nonzero()
        return int(enough[0]) + 1 if len(enough) else len(self.s)

    @property
    def effective_rank(self) -> float:
        """``exp`` of the entropy of the singular values' shares (Roy and Vetterli 2007); 0 for nothing."""
        total = float(self.s.sum())
        if total <= 0.0:
            return 0.0
        shares = self.s[self.s > 0] / total
        return float(torch.exp(-(shares * shares.log()).sum()))

    def truncated(self, rank: int) -> Update:
        """The best update of ``rank``, its singular values split evenly between the factors."""
        root = self.s[:rank].sqrt()
        a, b = root[:, None] * self.vt[:rank], self.u[:, :rank] * root
        return Update(a.float().contiguous(), b.float().contiguous())


@torch.no_grad()
def spectrum_of(update: Update) -> Spectrum:
    """All directions of an update, exactly, through its factors."""
    qb, rb = torch.linalg.qr(update.lora_B.double())  # (out, k), (k, R)
    qa, ra = torch.linalg.qr(update.lora_A.double().T)  # (in, l), (l, R)
    u, s, vt = torch.linalg.svd(rb @ ra.T, full_matrices=False)
    return Spectrum(qb @ u, s, vt @ qa.T, float(s.square().sum()))


@torch.no_grad()
def spectrum_of_matrix(matrix: Tensor, rank: int, generator: torch.Generator) -> Spectrum:
    """The first ``rank`` directions of a full matrix (out, in).

    Exact for small matrices and for high ranks, else by randomised subspace iteration.
    """
    energy = float(matrix.double().square().sum())
    smaller = min(matrix.shape)
    if smaller <= _EXACT_BELOW or rank * _SHARE_FOR_EXACT > smaller:
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        return Spectrum(u[:, :rank], s[:rank], vt[:rank], energy)
    u, s, vt = top_directions(matrix, rank, generator)
    return Spectrum(u.double(), s.double(), vt.double(), energy)
