"""Float32 weights to the blocks that GGUF files store: the way back from ``blocks.py``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nomoat.core.errors import NumericError, ShapeMismatch, UnsupportedType
from nomoat.formats import quantize32, quantize256
from nomoat.formats.blocks import block_type
from nomoat.formats.fit import NUMPY, Search
from nomoat.formats.weights import Bytes, Floats

WEIGHTS_AT_A_TIME = 1 << 16  # a search makes some twenty passes: these stay in the cache


def quantize(weights: Floats, type: str, importance: Floats | None = None, search: Search = NUMPY) -> Bytes:
    """Return ``weights``, float32 (rows, cols), as blocks of ``type``, uint8 (rows, row_bytes).

    ``importance``: (cols,), how much an error in each column counts, such as the mean square of what the column is
    multiplied with; without it all columns count alike. ``search``: who looks for scales; ``kernels/fit_native.py``
    has a quicker one, to the same bits. Raises ``UnsupportedType`` for a type that is not written, ``ShapeMismatch``
    where a row is not whole blocks, ``NumericError`` for what is not finite or leaves float16.
    """
    kind = block_type(type)
    if type not in _QUANTIZE:
        raise UnsupportedType(f"{type} is read, not written", hint="types to write: " + ", ".join(_QUANTIZE))
    rows, cols = weights.shape
    out = np.empty((rows, kind.row_bytes(cols)), np.uint8)
    if importance is not None and importance.shape != (cols,):
        raise ShapeMismatch(f"an importance of shape {importance.shape} for rows of {cols} weights")
    step = max(1, WEIGHTS_AT_A_TIME // max(1, cols))
    for start in range(0, rows, step):
        part = weights[start : start + step]
        out[start : start + step] = _quantized(part, type, importance, search).reshape(len(part), -1)
    return out


def _quantized(part: Floats, type: str, importance: Floats | None, search: Search) -> Bytes:
    if not np.isfinite(part).all():
        raise NumericError(f"a weight to be stored as {type} is not a finite number")
    weighed, block_size = None, block_type(type).block_size
    if importance is not None:
        weighed = np.broadcast_to(importance, part.shape).reshape(-1, block_size)
    with np.errstate(over="ignore"):
        blocks = _QUANTIZE[type](np.ascontiguousarray(part, dtype=np.float32).reshape(-1, block_size), weighed, search)
    if type != "F32" and type != "BF16" and np.abs(part).max(initial=0) > 65000:
        raise NumericError(f"a weight of {np.abs(part).max():.3g} is too large for {type}", hint="--type F32 or BF16")
    return blocks


def _f32(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    return x.astype("<f4").view(np.uint8)


def _f16(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    return x.astype("<f2").view(np.uint8)


def _bf16(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)  # to nearest, halves to even
    return (rounded >> 16).astype("<u2").view(np.uint8)


# weights (N, block_size), their importance, who searches -> blocks (N, type_size)
_QUANTIZE: dict[str, Callable[[Floats, Floats | None, Search], Bytes]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": quantize32.q4_0,
    "Q4_1": quantize32.q4_1,
    "Q5_0": quantize32.q5_0,
    "Q5_1": quantize32.q5_1,
    "Q8_0": quantize32.q8_0,
    "Q4_K": quantize256.q4_k,
    "Q5_K": quantize256.q5_k,
    "Q6_K": quantize256.q6_k,
}
WRITTEN = tuple(_QUANTIZE)
