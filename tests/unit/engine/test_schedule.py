"""The scheduler on plain numbers: no model, no tensors."""

from __future__ import annotations

import pytest

from nomoat.core.errors import ResourceError, UsageError
from nomoat.engine.schedule import Scheduler, Segment


class Hall:
    """A room that counts tokens: at most ``size`` in all; ``cached`` of a request's are there when it enters."""

    def __init__(self, size: int = 10**9, cached: dict[int, int] | None = None) -> None:
        self.size, self.cached, self.known = size, cached or {}, dict[int, int]()
        self.inside: dict[int, int] = {}

    def enter(self, request: int, spare: int) -> int | None:
        return self.cached.get(request, 0) if self._fits(request, self.known.get(request, 1), spare) else None

    def grow(self, request: int, tokens: int) -> bool:
        self.known[request] = tokens
        return self._fits(request, tokens, 0)

    def follow(self, request: int, cached: int) -> int | None:
        return cached

    def leave(self, request: int) -> None:
        del self.inside[request]

    def _fits(self, request: int, tokens: int, spare: int) -> bool:
        others = sum(self.inside.values()) - self.inside.get(request, 0)
        if others + tokens + spare > self.size:
            return False
        self.inside[request] = tokens
        return True


def new_scheduler(hall: Hall | None = None, **sizes: int) -> Scheduler:
    return Scheduler(hall or Hall(), **sizes)


def run_step(scheduler: Scheduler) -> list[Segment]:
    segments = scheduler.plan()
    for segment in segments:
        scheduler.advance(segment, 1 if segment.samples else 0)
    return segments


def test_prompts_that_fit_the_step_are_read_together() -> None:
    scheduler = new_scheduler(slots=4, step_tokens=100)
    scheduler.add(0, 30)
    scheduler.add(1, 50)
    first, second = scheduler.plan()
    assert (first.request, first.start, first.length, first.samples) == (0, 0, 30, True)
    assert (second.request, second.start, second.length, second.samples) == (1, 0, 50, True)


def test_a_long_prompt_is_read_in_pieces_and_only_the_last_piece_samples() -> None:
    scheduler = new_scheduler(slots=1, step_tokens=40)
    scheduler.add(0, 100)
    steps = [run_step(scheduler)[0] for _ in range(3)]
    assert [(s.start, s.length, s.samples) for s in steps] == [
        (0, 40, False),
        (40, 40, False),
        (80, 20, True),
    ]


def test_answers_go_on_while_a_long_prompt_is_read() -> None:
    scheduler = new_scheduler(slots=2, step_tokens=10)
    scheduler.add(0, 5)
    run_step(scheduler)
    scheduler.add(1, 25)
    for start in (0, 10, 20):
        answer, piece = run_step(scheduler)
        assert (answer.request, answer.length, answer.samples) == (0, 1, True)
        assert (piece.request, piece.start) == (1, start)


def test_answers_are_never_crowded_out_by_the_step_budget() -> None:
    scheduler = new_scheduler(slots=8, step_tokens=2)
    for request in range(8):
        scheduler.add(request, 1)
    assert len(run_step(scheduler)) == 8
    assert [segment.length for segment in run_step(scheduler)] == [1] * 8


def test_no_more_requests_run_than_there_are_rows_and_a_freed_row_is_used_again() -> None:
    hall = Hall()
    scheduler = new_scheduler(hall, slots=2, step_tokens=100)
    for request in range(3):
        scheduler.add(request, 4)
    assert {segment.request for segment in run_step(scheduler)} == {0, 1} == set(hall.inside)
    assert (scheduler.n_running, scheduler.n_waiting) == (2, 1)
    scheduler.finish(0)
    after = {segment.request: segment for segment in run_step(scheduler)}
    assert set(after) == {1, 2} == set(hall.inside)
    assert after[2].start == 0


def test_a_cached_prefix_is_not_read_again() -> None:
    scheduler = new_scheduler(Hall(cached={0: 45}), slots=1, step_tokens=100)
    scheduler.add(0, 50)
    assert scheduler.plan() == [Segment(request=0, start=45, length=5, samples=True)]


def test_a_request_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        new_scheduler(slots=1, step_tokens=8).add(0, 0)


def test_a_short_prompt_is_not_held_up_by_a_long_one_before_it_and_both_end() -> None:
    scheduler = new_scheduler(slots=4, step_tokens=40)
    scheduler.add(0, 1000)
    scheduler.add(1, 12)
    first = {segment.request: segment for segment in run_step(scheduler)}
    assert first[1].samples and first[0].length == 28
    scheduler.finish(1)
    for _ in range(25):
        last = run_step(scheduler)[0]
    assert last.samples and last.start + last.length == 1000


def test_every_prompt_gets_something_of_every_step() -> None:
    scheduler = new_scheduler(slots=8, step_tokens=64)
    for request in range(8):
        scheduler.add(request, 500)
    for _ in range(5):
        assert [segment.length for segment in run_step(scheduler)] == [8] * 8


def test_prompts_take_smaller_pieces_while_somebody_waits_for_a_word() -> None:
    scheduler = new_scheduler(slots=2, step_tokens=40, shared_tokens=10)
    scheduler.add(0, 5)
    run_step(scheduler)
    scheduler.add(1, 100)
    assert [segment.length for segment in run_step(scheduler)] == [1, 10]
    scheduler.finish(0)
    assert [segment.length for segment in run_step(scheduler)] == [40]


def test_the_youngest_gives_way_when_the_room_is_full_and_begins_again() -> None:
    hall = Hall(size=20)
    scheduler = new_scheduler(hall, slots=2, step_tokens=100)
    for request in (0, 1):
        hall.known[request] = 8
        scheduler.add(request, 8)
    run_step(scheduler)
    steps = 0
    while {segment.request for segment in run_step(scheduler)} == {0, 1}:
        steps += 1
    assert steps == 2 and set(hall.inside) == {0} and scheduler.n_waiting == 1
    for _ in range(5):
        assert [segment.request for segment in run_step(scheduler)] == [0]
    scheduler.finish(0)
    again = [run_step(scheduler)[0] for _ in range(2)]  # its prompt, and then what it had answered
    assert [(s.request, s.start, s.length, s.samples) for s in again] == [(1, 0, 8, False), (1, 8, 3, True)]


def test_requests_begin_in_the_order_they_came_though_a_later_one_would_fit() -> None:
    hall = Hall(size=20)
    hall.known = {0: 15, 1: 15, 2: 2}
    scheduler = new_scheduler(hall, slots=4, step_tokens=100)
    for request, tokens in hall.known.items():
        scheduler.add(request, tokens)
    assert [segment.request for segment in run_step(scheduler)] == [0]
    assert scheduler.n_waiting == 2


def test_a_request_larger_than_the_whole_room_is_an_error() -> None:
    hall = Hall(size=20)
    hall.known[0] = 21
    scheduler = new_scheduler(hall, slots=1, step_tokens=8)
    scheduler.add(0, 21)
    with pytest.raises(ResourceError, match="does not fit"):
        scheduler.plan()


def test_guesses_ride_with_the_next_token_where_there_is_room() -> None:
    hall = Hall(size=12)
    scheduler = new_scheduler(hall, slots=1, step_tokens=100)
    scheduler.add(0, 5)
    run_step(scheduler)
    (segment,) = scheduler.plan({0: 4})
    assert segment == Segment(request=0, start=5, length=5, samples=True, guesses=4)
    scheduler.advance(segment, 3)
    assert scheduler.cached(0) == 8 and scheduler.answering() == [0]
    assert scheduler.plan({0: 4})[0] == Segment(request=0, start=8, length=1, samples=True)


def test_finishing_a_request_that_still_waits_takes_it_out_of_the_queue() -> None:
    scheduler = new_scheduler(slots=1, step_tokens=100)
    scheduler.add(0, 3)
    scheduler.add(1, 3)
    run_step(scheduler)
    scheduler.finish(1)
    scheduler.finish(0)
    assert scheduler.idle and scheduler.plan() == []


@pytest.mark.parametrize(("slots", "step_tokens"), [(0, 8), (1, 0)])
def test_a_batch_without_rows_or_tokens_is_refused(slots: int, step_tokens: int) -> None:
    with pytest.raises(UsageError):
        new_scheduler(slots=slots, step_tokens=step_tokens)
