from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch, UnsupportedType, UsageError
from nomoat.formats.blocks import TYPES, dequantize
from nomoat.formats.weights import Bytes
from nomoat.kernels import blocks, limbs, native, reference

SETS = native.instruction_sets()
SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "IQ4_NL": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_XS": (0,),
    "F32": (2,), "F16": (0,), "BF16": (0,),
}  # fmt: skip


def stored(type: str, rows: int, n_blocks: int, *, ordinary: bool = False) -> Bytes:
    """Random blocks. ``ordinary``: with scales between a half and two, as no model is without."""
    kind = TYPES[type]
    data = np.random.default_rng(rows).integers(0, 256, (rows, n_blocks, kind.type_size), dtype=np.uint8)
    for at in SCALES[type] if ordinary else ():
        data[..., at + 1] = 0x38 + data[..., at + 1] % 8 if type not in ("F32", "BF16") else 0x3F
    return data.reshape(rows, -1)


def bits(values: Tensor) -> list[list[int]]:
    """The bits of every number; all NaN count as one, since their payload is free."""
    return torch.where(values.isnan(), 0x7FC00000, values.view(torch.int32)).tolist()


def test_the_kernels_are_built_where_there_is_a_compiler() -> None:
    if shutil.which("c++") is None and shutil.which("cl") is None:
        pytest.skip("no C++ compiler here")
    assert SETS, native.status()
    assert native.status() == f"compiled kernels, {native.SETS[SETS[-1]]}"


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("rows", "n_blocks"), [(1, 1), (5, 3), (3, 37)])
def test_the_torch_twin_gives_the_bits_of_the_numpy_twin(type: str, rows: int, n_blocks: int) -> None:
    data = stored(type, rows, n_blocks)
    got = reference.expand(torch.from_numpy(data), type)
    assert bits(got) == bits(torch.from_numpy(dequantize(data, type)))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("rows", "n_blocks"), [(1, 1), (5, 3), (3, 37), (130, 9)])
def test_every_instruction_set_gives_the_bits_of_the_twin(
    type: str, rows: int, n_blocks: int, instruction_set: int
) -> None:
    data = torch.from_numpy(stored(type, rows, n_blocks))
    got = native.expand(data, type, instruction_set=instruction_set)
    assert got.shape == (rows, n_blocks * TYPES[type].block_size)
    assert bits(got) == bits(reference.expand(data, type))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("m", [1, 2, 3, 4, 7, 16])
def test_products_agree_with_double_precision_to_1e_5(type: str, m: int, instruction_set: int) -> None:
    n_blocks = 2816 // TYPES[type].block_size + (TYPES[type].block_size == 1)  # 2817 has a tail for every loop
    data = torch.from_numpy(stored(type, 7, n_blocks, ordinary=True))
    weights = reference.expand(data, type).double()
    x = torch.randn(m, weights.shape[1], generator=torch.Generator().manual_seed(m))
    scale = x.double().abs() @ weights.abs().T
    for got in (
        native.matmul_small(x, data, type, instruction_set=instruction_set),
        reference.matmul_small(x, data, type),
    ):
        assert got.shape == (m, 7)
        assert ((got.double() - x.double() @ weights.T).abs() / scale).max() < 1e-5


@pytest.mark.parametrize("type", TYPES)
def test_a_row_of_a_product_does_not_depend_on_threads_or_on_its_batch(
    type: str, instruction_set: int, threads: None
) -> None:
    data = torch.from_numpy(stored(type, 103, max(1, 1280 // TYPES[type].block_size), ordinary=True))
    x = torch.randn(11, 1280)
    torch.set_num_threads(1)
    alone = torch.cat([native.matmul_small(row, data, type, instruction_set=instruction_set) for row in x.split(1)])
    for n, rows in ((1, 11), (1, 2), (1, 3), (2, 4), (3, 11)):
        torch.set_num_threads(n)
        assert torch.equal(native.matmul_small(x[:rows], data, type, instruction_set=instruction_set), alone[:rows])
    assert torch.equal(native.expand(data, type, instruction_set=instruction_set), reference.expand(data, type))


@pytest.mark.parametrize("type", TYPES)
def test_products_of_every_shape_are_float32s_whatever_the_sizes_of_what_is_multiplied(
    type: str, instruction_set: int
) -> None:
    for m, rows, columns in ((1, 16, 256), (3, 17, 512), (8, 100, 768), (16, 33, 1280)):
        n_blocks = columns // TYPES[type].block_size
        wide = torch.from_numpy(stored(type, rows + 2, n_blocks + 1, ordinary=True))
        data = wide[1:-1, : n_blocks * TYPES[type].type_size]  # rows lie apart, and anywhere
        weights = reference.expand(data, type).double()
        x = torch.randn(m, columns, generator=torch.Generator().manual_seed(m))
        x *= torch.logspace(-12, 12, m)[:, None]
        x[:, ::100] *= 100  # as some numbers of a hidden state are
        size = (x.double().square() @ weights.square().T).sqrt()
        largest = x.view(m, -1, 32).abs().amax(-1).repeat_interleave(32, 1)  # limbs are as fine as float32 is there
        in_limbs = instruction_set == native.SETS.index("avx512") and limbs.takes(data, type)
        allowed = 3e-6 * size + in_limbs * 2**-25 * largest.double() @ weights.abs().T
        got = native.matmul_small(x, data, type, instruction_set=instruction_set)
        assert ((got.double() - x.double() @ weights.T).abs() / allowed).max() < 1
        assert not native.matmul_small(torch.zeros(m, columns), data, type, instruction_set=instruction_set).any()


@pytest.mark.parametrize("columns", [1, 7, 16, 20, 64])
def test_a_matrix_of_few_columns_is_multiplied_as_exactly_and_a_row_alone_as_among_others(
    columns: int, instruction_set: int
) -> None:
    weights, x = torch.randn(53, columns), torch.randn(5, columns)
    data = weights.view(torch.uint8).view(53, -1)
    got = native.matmul_small(x, data, "F32", instruction_set=instruction_set)
    torch.testing.assert_close(got.double(), x.double() @ weights.double().T, rtol=0, atol=1e-5)
    for i in range(5):
        alone = native.matmul_small(x[i : i + 1], data[3:50], "F32", instruction_set=instruction_set)
        assert torch.equal(alone, got[i : i + 1, 3:50])


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_rows_may_be_a_slice_and_the_result_may_have_a_place(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    whole = torch.from_numpy(stored("Q8_0", 12, 4, ordinary=True))
    part = whole[2:10:3, 34:102]
    out = torch.full((3, 64), 7.0)
    assert blocks.expand(part, "Q8_0", out) is out
    assert torch.equal(out, reference.expand(part.clone(), "Q8_0"))
    x = torch.randn(64, 2).T
    torch.testing.assert_close(blocks.matmul_small(x, part, "Q8_0"), x @ out.T, rtol=1e-5, atol=1e-4)


def test_a_wide_half_precision_row_keeps_every_half_there_is(instruction_set: int) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.uint8).view(1, -1)
    got = native.expand(every, "F16", instruction_set=instruction_set)
    assert bits(got) == bits(every.view(torch.float16).float())


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_nothing_in_gives_nothing_out(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    none = torch.zeros(0, 18, dtype=torch.uint8)
    assert blocks.expand(none, "Q4_0").shape == (0, 32)
    assert blocks.matmul_small(torch.zeros(2, 32), none, "Q4_0").shape == (2, 0)
    assert blocks.matmul_small(torch.zeros(0, 32), torch.zeros(3, 18, dtype=torch.uint8), "Q4_0").shape == (0, 3)


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_what_does_not_fit_is_refused_before_a_pointer_is_followed(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    good = torch.zeros(4, 36, dtype=torch.uint8)
    with pytest.raises(UnsupportedType, match="IQ2_XXS"):
        blocks.expand(good, "IQ2_XXS")
    for bad in (good[:, :35], good.view(torch.int8), good.view(-1), good[None]):
        with pytest.raises(ShapeMismatch):
            blocks.expand(bad, "Q4_0")
    for out in (torch.zeros(4, 63), torch.zeros(4, 64, dtype=torch.float64), torch.zeros(5, 64)):
        with pytest.raises(ShapeMismatch):
            blocks.expand(good, "Q4_0", out)
    for x in (torch.zeros(1, 63), torch.zeros(1, 64, dtype=torch.float64), torch.zeros(64)):
        with pytest.raises(ShapeMismatch):
            blocks.matmul_small(x, good, "Q4_0")
    with pytest.raises(UsageError, match="no gradient"):
        blocks.matmul_small(torch.zeros(1, 64, requires_grad=True), good, "Q4_0")
    with torch.no_grad():
        assert not blocks.matmul_small(torch.zeros(1, 64, requires_grad=True), good, "Q4_0").any()


def test_layouts_the_library_cannot_walk_over_are_refused() -> None:
    if not SETS:
        pytest.skip(native.status())
    data = torch.zeros(36, 4, dtype=torch.uint8).T  # the bytes of a row lie apart
    with pytest.raises(ShapeMismatch, match="lie together"):
        native.expand(data, "Q4_0")
    with pytest.raises(ShapeMismatch, match="lie together"):
        native.expand(torch.zeros(36, dtype=torch.uint8).expand(4, 36), "Q4_0")
    with pytest.raises(ShapeMismatch, match="contiguous"):
        native.expand(torch.zeros(4, 36, dtype=torch.uint8), "Q4_0", torch.zeros(64, 4).T)
    with pytest.raises(ShapeMismatch, match="up to 16 rows"):
        native.matmul_small(torch.zeros(17, 64), torch.zeros(4, 36, dtype=torch.uint8), "Q4_0")


def test_the_environment_chooses_the_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    assert not native.available()
    assert "NOMOAT_KERNELS=reference" in native.status()


def test_the_environment_names_a_level_to_stay_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "avx-vnni")
    assert native.SETS[native.chosen(None)] == "avx2"
    assert native.LEVELS[native.chosen(None, native.LEVELS)] == "avx-vnni"
    assert native.chosen(2) == 2
    monkeypatch.delenv("NOMOAT_KERNELS")
    assert native.chosen(None) == len(native.SETS) - 1
    monkeypatch.setenv("NOMOAT_KERNELS", "avx1024")
    with pytest.raises(UsageError, match="avx1024 is unknown"):
        native.available()


def test_without_a_built_library_the_twins_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MODULE", "nomoat.kernels._not_built")
    native._load.cache_clear()
    try:
        assert not native.available()
        assert native.instruction_sets() == []
        assert "without a C++ compiler" in native.status()
        data = torch.from_numpy(stored("Q6_K", 2, 1, ordinary=True))
        assert torch.equal(blocks.expand(data, "Q6_K"), reference.expand(data, "Q6_K"))
        with pytest.raises(ShapeMismatch, match="no compiled kernels"):
            native.expand(data, "Q6_K")
    finally:
        native._load.cache_clear()


def test_a_view_of_a_file_becomes_a_tensor_of_the_same_memory_without_a_warning() -> None:
    data = stored("Q4_0", 2, 2)
    data.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = blocks.from_view(data)
    assert tensor.data_ptr() == data.ctypes.data


def test_threads_of_the_caller_do_not_disturb_each_other(threads: None) -> None:
    torch.set_num_threads(2)
    inputs = [torch.from_numpy(stored("Q5_K", 200 + n, 8, ordinary=True)) for n in range(8)]
    expected = [reference.expand(data, "Q5_K") for data in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = list(pool.map(lambda data: blocks.expand(data, "Q5_K"), inputs))
            same = zip(results, expected, strict=True)
        assert all(torch.equal(got.view(torch.int32), want.view(torch.int32)) for got, want in same)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    script = """
import os, signal, numpy, torch
from nomoat.kernels import native
torch.set_num_threads(2)
data = torch.from_numpy(numpy.full((512, 18 * 32), 60, numpy.uint8))
before = native.expand(data, "Q4_0").numpy()
child = os.fork()
if child == 0:
    signal.alarm(20)  # numpy compares: torch's own OpenMP threads do not outlive a fork
    os._exit(0 if numpy.array_equal(native.expand(data, "Q4_0").numpy(), before) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    if not SETS:
        pytest.skip(native.status())
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
