"""What a base is, whichever file it came in, so that an adapter can tell its own base from a wrong one.

What it promises. ``norms`` is a hash of all norm vectors rounded to bfloat16. Every common quantization keeps them
in full, so a GGUF file and the Hugging Face folder it was made from agree, and a differently trained sibling (base
against instruct, another seed) does not. ``sketch`` holds 512 weights at fixed places of the matrices, after
dequantization: another quantization of the same base correlates above 0.9, another model does not. ``exact`` is
a hash of the sketch before rounding: equal means the very same stored weights at all those places. What it
does not promise: a base changed in few matrices only, its norms untouched, can pass as a quantization of itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nomoat.model.decoder import Decoder, RMSNorm
from nomoat.model.linear import Embedding, Linear

SKETCH_SIZE = 512
SAME_BASE_CORRELATION = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprint:
    """See the module's docstring. ``shape`` is the family and sizes in words."""

    shape: str
    norms: str
    exact: str
    sketch: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint | None:
        """Read back; ``None`` where the values are not a fingerprint."""
        try:
            sketch = tuple(float(x) for x in values["sketch"])
            return cls(str(values["shape"]), str(values["norms"]), str(values["exact"]), sketch)
        except (KeyError, TypeError, ValueError):
            return None

    def difference(self, other: Fingerprint) -> str:
        """Why ``other`` is another base, or an empty string where it is the same one in any quantization."""
        if self.shape != other.shape:
            return f"its shape is {other.shape}, not {self.shape}"
        if self.exact == other.exact:
            return ""
        if self.norms != other.norms:
            return "same shape, but its norm weights differ: it was trained differently"
        likeness = _correlation(self.sketch, other.sketch)
        if likeness < SAME_BASE_CORRELATION:
            return f"same shape and norms, but its matrices differ (correlation {likeness:.2f})"
        return ""

    def __str__(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict()).encode()).hexdigest()[:12]


def _correlation(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    if len(a) != len(b) or not a:
        return 0.0
    x, y = np.array(a), np.array(b)
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else 0.0


def fingerprint_of(decoder: Decoder) -> Fingerprint:
    """Read the fingerprint off a loaded decoder; touches a few thousand weights only."""
    c = decoder.config
    shape = (
        f"{c.family} {c.n_layers}x{c.d_model} heads {c.n_heads}/{c.n_kv_heads}x{c.head_dim} "
        f"inner {c.d_ff} vocabulary {c.vocab_size}"
    )
    norms = hashlib.sha256()
    for _, vector in _norms(decoder):
        norms.update(vector.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    values = _sampled(decoder)
    exact = hashlib.sha256(norms.digest() + values.numpy().tobytes()).hexdigest()
    sketch = tuple(float(f"{value:.4g}") for value in values.tolist())
    return Fingerprint(shape, norms.hexdigest(), exact, sketch)


def _norms(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    for name, module in decoder.named_modules():
        if isinstance(module, RMSNorm):
            yield name, module.weight


def _sampled(decoder: Decoder) -> Tensor:
    """Weights at fixed places, spread over all matrices: one row each of ``rows``, a few columns of the row."""
    matrices: list[nn.Module] = [m for m in decoder.modules() if isinstance(m, Linear | Embedding)]
    weights = [m.weight for m in matrices if isinstance(m, Linear | Embedding)]
    each = -(-SKETCH_SIZE // len(weights))
    picked = []
    for number, weight in enumerate(weights):
        row = (number * 7919 + 13) % weight.shape[0]
        values = weight.gather(torch.tensor([row]))[0]
        columns = (torch.arange(each) * 104729 + number * 31) % weight.shape[1]
        picked.append(values[columns])
    return torch.cat(picked)[:SKETCH_SIZE].clone()
