"""Quantizing against the ``gguf`` package, byte for byte where it has the type, and against real models."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

import models
from nomoat.formats.blocks import dequantize
from nomoat.formats.gguf import GgufFile
from nomoat.formats.quantize import quantize


@pytest.mark.parametrize("type", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("scale", [1e-7, 0.02, 300.0])
def test_the_bytes_are_those_of_the_gguf_package(type: str, scale: float) -> None:
    weights = (np.random.default_rng(3).normal(size=(64, 1024)) * scale).astype(np.float32)
    weights[0] = 0
    weights[1, :40] = weights[1, 0]
    theirs = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[type])
    assert np.array_equal(quantize(weights, type), theirs.view(np.uint8))


@pytest.mark.real
@pytest.mark.parametrize("type", ["Q4_K", "Q6_K"])
def test_what_llama_cpp_stored_is_found_again_nearly_without_loss(type: str) -> None:
    """Weights that lie on a grid of the type's own are put on one that is as good."""
    file = GgufFile.open(models.path("qwen05"))
    name = next(tensor.name for tensor in file.tensors.values() if tensor.type == type and "blk" in tensor.name)
    stored = dequantize(file.data(name)[:64], type)
    again = dequantize(quantize(stored, type), type)
    assert np.square(again - stored).sum() / np.square(stored).sum() < {"Q4_K": 1e-3, "Q6_K": 2e-4}[type]
