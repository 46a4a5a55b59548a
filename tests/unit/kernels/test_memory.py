"""Large tensors of a step lie in memory that is used again."""

from __future__ import annotations

import threading

import psutil
import pytest
import torch

from nomoat.kernels.memory import LEAST_BYTES, Pool, empty, lasting, zeros

COUNT = LEAST_BYTES // 4


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    with Pool() as pool:
        first = empty(4, COUNT)
        address, view, idle = first.data_ptr(), first[2:, 5:], pool.idle_bytes
        del first
        assert pool.idle_bytes == idle
        view.fill_(1.0)
        del view
        assert pool.idle_bytes == idle + 16 * COUNT == pool.mapped_bytes
        assert empty(2, 2 * COUNT).data_ptr() == address


def test_a_tensor_outlives_its_pool() -> None:
    with Pool():
        held = empty(COUNT).fill_(3.0)
    assert held.sum() == 3.0 * COUNT


def test_what_is_in_use_is_not_given_twice() -> None:
    with Pool():
        tensors = [empty(COUNT + 1000 * i).fill_(i) for i in range(6)]
        del tensors[2:4]
        tensors += [empty(COUNT + 500).fill_(9), empty(COUNT + 100).fill_(9)]
        assert [tensor.unique().tolist() for tensor in tensors] == [[0], [1], [4], [5], [9], [9]]


def test_idle_neighbours_are_joined_and_serve_tensors_of_any_size() -> None:
    with Pool() as pool:
        pieces = [empty(COUNT) for _ in range(8)]
        first = min(piece.data_ptr() for piece in pieces)
        for number in (3, 0, 5, 7, 1, 2, 6, 4):
            pieces[number] = empty(10)
        mapped = pool.mapped_bytes
        larger = [empty(3 * COUNT), empty(5 * COUNT)]
        assert pool.mapped_bytes == mapped and min(each.data_ptr() for each in larger) == first


def test_steps_of_changing_sizes_map_no_more_than_the_largest() -> None:
    def step(count: int) -> None:
        kept = [empty(count), empty(3 * count)]
        for _ in range(5):
            between = [empty(2 * count), empty(3 * count), empty(count)]
            kept.append(between[1])
        del kept, between

    with Pool() as pool:
        step(8 * COUNT)
        mapped = pool.mapped_bytes
        for count in (5 * COUNT, 8 * COUNT, 3 * COUNT, 7 * COUNT, COUNT):
            step(count)
        assert pool.mapped_bytes == mapped == pool.idle_bytes


def test_small_tensors_other_threads_and_the_time_after_are_torchs() -> None:
    found: list[torch.Tensor] = []
    with Pool() as pool:
        found.append(empty(10))
        thread = threading.Thread(target=lambda: found.append(empty(COUNT)))
        thread.start()
        thread.join()
    found.append(empty(COUNT))
    assert [tensor.numel() for tensor in found] == [10, COUNT, COUNT]
    assert pool.mapped_bytes == 0


def test_gradients_flow_through_tensors_of_a_pool() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    with Pool():
        x = empty(COUNT, 2).fill_(1.0)
        (x @ weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and weight.grad.tolist() == [[COUNT, COUNT], [COUNT, COUNT]]


def test_a_lasting_pool_is_its_threads_own_and_is_used_again() -> None:
    pool = lasting()
    assert lasting() is pool
    with pool:
        first = empty(1 << 20)
    at, mapped = first.data_ptr(), pool.mapped_bytes
    del first
    with lasting():
        assert empty(1 << 20).data_ptr() == at and pool.mapped_bytes == mapped
    others: list[Pool] = []
    thread = threading.Thread(target=lambda: others.append(lasting()))
    thread.start()
    thread.join()
    assert others[0] is not pool


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_zeros_take_no_memory_before_they_are_touched(dtype: torch.dtype) -> None:
    before = psutil.Process().memory_info().rss
    large = zeros((1 << 28,), dtype)
    large[5] = 7
    assert large.shape == (1 << 28,) and large.dtype == dtype and large[:10].sum() == 7
    assert psutil.Process().memory_info().rss - before < 1 << 26
