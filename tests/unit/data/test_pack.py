"""Packing without padding, and the order of rows as a pure function of seed and step."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.core.errors import UsageError
from nomoat.data.pack import count_steps, order, pack, steps, unpack
from nomoat.model.template import Encoded

ROWS = st.lists(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=20).map(
        lambda pairs: Encoded(ids=[i for i, _ in pairs], loss_mask=[mask for _, mask in pairs])
    ),
    max_size=20,
)


@given(ROWS, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_packing_and_unpacking_is_the_identity_and_no_batch_is_overfull(rows: list[Encoded], max_tokens: int) -> None:
    batches = pack(rows, max_tokens)
    assert [row for batch in batches for row in unpack(batch)] == rows
    for batch in batches:
        assert len(batch.tokens) == len(batch.loss_mask) == sum(batch.lengths)
        assert len(batch.tokens) <= max_tokens or len(batch.lengths) == 1
    for one, following in itertools.pairwise(batches):
        assert len(one.tokens) + following.lengths[0] > max_tokens


@given(ROWS)
@settings(max_examples=20, deadline=None)
def test_the_first_token_of_a_row_has_no_loss(rows: list[Encoded]) -> None:
    learned = sum(batch.learned for batch in pack(rows, 1000))
    assert learned == sum(sum(row.loss_mask[1:]) for row in rows)


def test_packed_tensors_have_the_types_the_model_wants() -> None:
    import torch

    (batch,) = pack([Encoded([1, 2], [False, True]), Encoded([3], [True])], 8)
    assert (batch.tokens.dtype, batch.loss_mask.dtype) == (torch.int64, torch.bool)
    assert batch.lengths == [2, 1] and batch.learned == 1


def test_each_epoch_sees_every_row_once_in_its_own_order() -> None:
    run = list(steps(10, batch_size=4, epochs=2, seed=1))
    assert [len(step) for step in run] == [4, 4, 2, 4, 4, 2]
    first, second = (list(itertools.chain(*epoch)) for epoch in (run[:3], run[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second and first != list(range(10))


@pytest.mark.parametrize(("epochs", "expected"), [(1, 3), (2, 6), (0.5, 2), (1 / 3, 1), (1.1, 4), (0.1, 1)])
def test_a_part_of_an_epoch_is_rounded_up_to_a_step(epochs: float, expected: int) -> None:
    assert count_steps(10, batch_size=4, epochs=epochs) == expected
    assert len(list(steps(10, batch_size=4, epochs=epochs, seed=0))) == expected


@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_run_resumes_at_any_step_with_the_same_rows(n: int, batch_size: int, start: int, seed: int) -> None:
    whole = list(steps(n, batch_size=batch_size, epochs=3, seed=seed))
    assert list(steps(n, batch_size=batch_size, epochs=3, seed=seed, start=start)) == whole[start:]


PINNED = [2, 7, 5, 1, 0, 4, 6, 3]  # eight rows in epoch 0 of seed 0


def test_the_order_is_pinned_for_ever_and_mixes_well() -> None:
    assert order(8, seed=0, epoch=0) == PINNED
    firsts = Counter(order(4, seed=seed, epoch=0)[0] for seed in range(400))
    assert set(firsts) == {0, 1, 2, 3} and min(firsts.values()) > 60


@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (4, 0)])
def test_no_rows_or_no_batch_make_no_steps(n: int, batch_size: int) -> None:
    with pytest.raises(UsageError):
        list(steps(n, batch_size=batch_size, epochs=1, seed=0))
