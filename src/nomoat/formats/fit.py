"""Search for the scale, or scale and offset, with which a run of weights is best written in small whole numbers.

Each candidate scale rounds the weights; for the rounded numbers the best scale has a closed form (weighted least
squares), and the candidate with the least weighted error wins. These are the searches that ggml-quants.c of ggml
describes for its K types. Shapes: N runs of R weights, R a power of two. Sums are taken in an order that any machine
can keep, so that ``csrc/fit.cpp`` finds the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from nomoat.formats.weights import Floats


def inverse(values: Floats) -> Floats:
    """1 / values, and 0 where a value is 0."""
    out: Floats = np.zeros_like(values)
    np.divide(np.float32(1), values, out=out, where=values != 0)
    return out


def peak(x: Floats) -> Floats:
    """The value furthest from zero of each run, with its sign. (N, R) -> (N, 1)."""
    found: Floats = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    return found


def about(levels: int) -> Floats:
    """The candidates of ``best_scale``: the peak becomes -levels, give or take 0.9 in steps of a tenth."""
    return np.array([levels + 0.1 * step for step in range(-9, 10)], np.float32)


def from_level(top: int, first: float, steps: int) -> Floats:
    """The candidates of ``best_line``: the range becomes ``top + first`` levels, and on in steps of a tenth."""
    return np.array([top + first + 0.1 * step for step in range(steps + 1)], np.float32)


def best_scale(x: Floats, weights: Floats, levels: int, factors: Floats) -> Floats:
    """The scale s that minimises ``sum weights (x - s q)^2`` over whole q from -levels to levels - 1: (N, 1).

    Candidates map the peak to minus each of ``factors``.
    """
    inverse_peak = -inverse(peak(x))
    scale, best = np.zeros_like(inverse_peak), np.zeros_like(inverse_peak)
    weighted = x * weights
    for factor in factors:
        q = x * (inverse_peak * factor)
        np.rint(q, out=q)
        np.clip(q, -levels, levels - 1, out=q)
        xq, qq = _dot(weighted, q), _dot(q * weights, q)
        gain = xq * xq * inverse(qq)  # how much of the weighted square of x the fit explains
        better = gain > best
        scale = np.where(better, xq * inverse(qq), scale)
        best = np.where(better, gain, best)
    return scale


def best_share(x: Floats, weights: Floats, top: int) -> Floats:
    """The scale s that minimises ``sum weights (x - s q)^2`` over whole q from 0 to top, for x >= 0: (N, 1).

    Candidates map the largest x to top, give or take 0.4 in steps of a tenth.
    """
    largest = x.max(axis=1, keepdims=True)
    inverse_largest = inverse(largest)
    scale: Floats = largest / np.float32(top)
    best = np.zeros_like(largest)
    weighted = x * weights
    for step in range(-4, 5):
        q = np.clip(np.rint(x * (inverse_largest * np.float32(top + 0.1 * step))), 0, top)
        xq, qq = _dot(weighted, q), _dot(q * weights, q)
        gain = xq * xq * inverse(qq)
        better = gain > best
        scale = np.where(better, xq * inverse(qq), scale)
        best = np.where(better, gain, best)
    return scale


def best_line(x: Floats, weights: Floats, top: int, factors: Floats) -> tuple[Floats, Floats]:
    """Scale s and offset m <= 0 that minimise ``sum weights (x - s q - m)^2`` over whole q from 0 to top: (N, 1) x 2.

    Candidates spread the range of x over each of ``factors``.
    """
    low = np.minimum(x.min(axis=1, keepdims=True), np.float32(0))
    above = x - low
    spread = inverse(above.max(axis=1, keepdims=True))
    weighted = x * weights
    sums = _sum(weights), _sum(weighted)
    scale, offset = np.zeros_like(low), low
    best = low * low * sums[0] - 2 * low * sums[1]
    for factor in factors:
        q = above * (spread * factor)
        np.rint(q, out=q)
        np.clip(q, 0, top, out=q)
        wq = q * weights
        slope, shift, error = _line(*sums, _sum(wq), _dot(wq, q), _dot(weighted, q))
        better = error < best
        scale, offset = np.where(better, slope, scale), np.where(better, shift, offset)
        best = np.where(better, error, best)
    return scale, offset


def _line(w: Floats, x: Floats, q: Floats, qq: Floats, xq: Floats) -> tuple[Floats, Floats, Floats]:
    """Weighted least squares from weighted sums; an offset above zero becomes zero. The error lacks ``sum w x^2``."""
    spread = w * qq - q * q
    divisor = inverse(spread)
    slope, shift = (w * xq - x * q) * divisor, (qq * x - q * xq) * divisor
    through_zero = (shift > 0) | (spread <= np.float32(1e-5) * w * qq)  # or the q are all the same
    slope = np.where(through_zero, xq * inverse(qq), slope)
    shift = np.where(through_zero, np.float32(0), shift)
    error = slope * slope * qq + shift * shift * w + 2 * slope * shift * q - 2 * slope * xq - 2 * shift * x
    return slope, shift, error


def _dot(a: Floats, b: Floats) -> Floats:
    return _sum(a * b)


def _sum(values: Floats) -> Floats:
    """The sum of each run, halves added to each other until one is left. (N, R) -> (N, 1)."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        values = values[:, :half] + values[:, half:]
    return values


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """The two searches that take the time of quantizing, by whoever does them."""

    scale: Callable[[Floats, Floats, int, Floats], Floats]
    line: Callable[[Floats, Floats, int, Floats], tuple[Floats, Floats]]


NUMPY = Search(best_scale, best_line)
