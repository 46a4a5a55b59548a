"""The block types against the ``gguf`` package, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

import models
from nomoat.formats.blocks import TYPES, dequantize
from nomoat.formats.gguf import GgufFile
from nomoat.formats.weights import Bytes

# Where the float16 numbers of a block are. Random bits there would be infinities now and then.
SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "IQ4_NL": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_XS": (0,),
}  # fmt: skip


def random_blocks(type: str, rows: int, blocks: int, seed: int) -> Bytes:
    """Random bits with finite scales of every size, subnormals and both zeros among them."""
    rng = np.random.default_rng(seed)
    kind = TYPES[type]
    data = rng.integers(0, 256, (rows, blocks, kind.type_size), dtype=np.uint8)
    if kind.block_size == 1:
        bits = {"F32": 0x7F, "F16": 0x7B, "BF16": 0x7F}[type]
        top = data[..., -1] & 0x7F
        data[..., -1] = (data[..., -1] & 0x80) | np.minimum(top, bits - 1)
    for at in SCALES.get(type, ()):
        data[..., at + 1] = (data[..., at + 1] & 0x80) | (data[..., at + 1] & 0x7F) % 0x7C
    data[0, 0, [at + half for at in SCALES.get(type, ()) for half in (0, 1)]] = 0
    return data.reshape(rows, -1)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 8), (3, 5), (17, 2), (33, 1)])
def test_every_type_gives_the_same_bits_as_the_gguf_package(type: str, rows: int, blocks: int) -> None:
    data = random_blocks(type, rows, blocks, seed=rows)
    ours = dequantize(data, type)
    number = gguf.GGMLQuantizationType[type]
    theirs = data.view(np.float32) if type == "F32" else gguf.quants.dequantize(data, number)
    assert np.isfinite(ours).all()
    assert ours.shape == (rows, blocks * TYPES[type].block_size)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("type", TYPES)
def test_the_table_of_sizes_is_that_of_the_gguf_package(type: str) -> None:
    number = gguf.GGMLQuantizationType[type]
    assert TYPES[type].ggml_id == int(number)
    assert (TYPES[type].block_size, TYPES[type].type_size) == gguf.GGML_QUANT_SIZES[number]


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_what_the_gguf_package_quantizes_comes_back_near(type: str) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 96)).astype(np.float32)
    stored = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[type])
    step = np.abs(weights).max() / (100 if type == "Q8_0" else 7)
    assert np.abs(dequantize(stored, type) - weights).max() < step


@pytest.mark.real
def test_every_tensor_of_real_models_gives_the_same_bits_as_the_gguf_package() -> None:
    seen = set()
    for name in ("smollm2", "qwen05"):
        file = GgufFile.open(models.path(name))
        for tensor in file.tensors.values():
            if tensor.type in seen and tensor.name.split(".")[1] not in ("0", "11"):
                continue
            seen.add(tensor.type)
            data = file.data(tensor.name)[:256]
            theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[tensor.type])
            assert np.array_equal(dequantize(data, tensor.type).view(np.uint32), theirs.view(np.uint32))
    assert seen >= {"F32", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K"}
