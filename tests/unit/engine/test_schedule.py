"""The scheduler on plain numbers: no model, no tensors."""

from __future__ import annotations

import pytest

from nomoat.core.errors import UsageError
from nomoat.engine.schedule import Scheduler, Segment


def run_step(scheduler: Scheduler) -> list[Segment]:
    segments = scheduler.plan()
    for segment in segments:
        scheduler.advance(segment)
    return segments


def test_prompts_that_fit_the_step_are_read_together() -> None:
    scheduler = Scheduler(slots=4, step_tokens=100)
    scheduler.add(0, tokens=30)
    scheduler.add(1, tokens=50)
    first, second = scheduler.plan()
    assert (first.request, first.start, first.length, first.samples) == (0, 0, 30, True)
    assert (second.request, second.start, second.length, second.samples) == (1, 0, 50, True)
    assert first.slot != second.slot


def test_a_long_prompt_is_read_in_pieces_and_only_the_last_piece_samples() -> None:
    scheduler = Scheduler(slots=1, step_tokens=40)
    scheduler.add(0, tokens=100)
    steps = [run_step(scheduler)[0] for _ in range(3)]
    assert [(s.start, s.length, s.samples) for s in steps] == [
        (0, 40, False),
        (40, 40, False),
        (80, 20, True),
    ]


def test_answers_go_on_while_a_long_prompt_is_read() -> None:
    scheduler = Scheduler(slots=2, step_tokens=10)
    scheduler.add(0, tokens=5)
    run_step(scheduler)
    scheduler.add(1, tokens=25)
    for start in (0, 10, 20):
        answer, piece = run_step(scheduler)
        assert (answer.request, answer.length, answer.samples) == (0, 1, True)
        assert (piece.request, piece.start) == (1, start)


def test_answers_are_never_crowded_out_by_the_step_budget() -> None:
    scheduler = Scheduler(slots=8, step_tokens=2)
    for request in range(8):
        scheduler.add(request, tokens=1)
    assert len(run_step(scheduler)) == 8
    assert [segment.length for segment in run_step(scheduler)] == [1] * 8


def test_no_more_requests_run_than_there_are_rows_and_a_freed_row_is_used_again() -> None:
    scheduler = Scheduler(slots=2, step_tokens=100)
    for request in range(3):
        scheduler.add(request, tokens=4)
    slots = {segment.request: segment.slot for segment in run_step(scheduler)}
    assert set(slots) == {0, 1}
    scheduler.finish(0)
    after = {segment.request: segment for segment in run_step(scheduler)}
    assert set(after) == {1, 2}
    assert after[2].slot == slots[0] and after[2].start == 0


def test_a_cached_prefix_is_not_read_again() -> None:
    scheduler = Scheduler(slots=1, step_tokens=100)
    scheduler.add(0, tokens=50, cached=45)
    assert scheduler.plan() == [Segment(request=0, slot=0, start=45, length=5, samples=True)]


def test_a_request_with_everything_cached_is_refused_because_nothing_would_be_drawn() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        Scheduler(slots=1, step_tokens=8).add(0, tokens=5, cached=5)


def test_groups_never_share_a_step_and_take_turns_in_the_order_they_came() -> None:
    scheduler = Scheduler(slots=4, step_tokens=100)
    for request, group in enumerate(["a", "a", "b", "a"]):
        scheduler.add(request, tokens=3, group=group)
    assert [segment.request for segment in run_step(scheduler)] == [0, 1]
    scheduler.finish(0)
    assert [segment.request for segment in run_step(scheduler)] == [1]
    scheduler.finish(1)
    assert [segment.request for segment in run_step(scheduler)] == [2]
    scheduler.finish(2)
    assert [segment.request for segment in run_step(scheduler)] == [3]


def test_finishing_a_request_that_still_waits_takes_it_out_of_the_queue() -> None:
    scheduler = Scheduler(slots=1, step_tokens=100)
    scheduler.add(0, tokens=3)
    scheduler.add(1, tokens=3)
    run_step(scheduler)
    scheduler.finish(1)
    scheduler.finish(0)
    assert scheduler.idle and scheduler.plan() == []


@pytest.mark.parametrize(("slots", "step_tokens"), [(0, 8), (1, 0)])
def test_a_batch_without_rows_or_tokens_is_refused(slots: int, step_tokens: int) -> None:
    with pytest.raises(UsageError):
        Scheduler(slots=slots, step_tokens=step_tokens)
