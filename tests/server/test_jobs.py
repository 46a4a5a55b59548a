"""Long work on a server: told as it goes, one at a time, stopped when asked, and blind."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nomoat.core.errors import DataError
from nomoat.core.records import Done, Note, Progress, Record
from nomoat.core.store import Store
from nomoat.engine.sampling import Sampling
from nomoat.judge.topics import Topic
from nomoat.judge.votes import votes
from nomoat.serve.app import guarded
from nomoat.serve.arena_options import ArenaOptions
from nomoat.serve.guard import Door
from nomoat.serve.jobs import Jobs, Kind, routes
from served import LiveArena, serving_arena
from tiny import tiny_base

QUESTIONS = [
    Topic(f"q{n}", "", ({"role": "user", "content": f"question {n}?"},), ("and then?",) * (n % 2)) for n in range(3)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveArena]:
    store = Store(tmp_path_factory.mktemp("jobs"))
    for seed, name in enumerate(("zeta", "omega")):
        tiny_base(store.path("bases", name), seed=seed, max_position_embeddings=4096)
    options = ArenaOptions(port=0, voters=("ann=ann-has-a-key", "ben"), judge="zeta")
    with serving_arena(store, ("zeta", "omega"), QUESTIONS, options, Sampling(max_tokens=6)) as found:
        yield found


@pytest.fixture
def ann(place: LiveArena) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.url, timeout=60, cookies={"nomoat_voter": "ann-has-a-key"}) as http:
        yield http


def told(reply: httpx.Response) -> list[dict[str, object]]:
    return [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]


def test_answers_written_ahead_are_what_every_voter_then_judges(place: LiveArena, ann: httpx.Client) -> None:
    assert ann.post("/jobs/answers").json()["job"] == "answers"
    reply = ann.get("/jobs/events")
    records = told(reply)
    assert [each["record"] for each in records][-2:] == ["done", "end"]
    assert records[-2]["result"] == {"answers": 6, "questions": 3}
    assert "zeta" not in reply.text and "omega" not in reply.text
    seen: dict[str, set[str]] = {}
    for _ in range(6):
        events = told(ann.post("/arena/match", json={}))
        said = sorted("".join(str(event.get(side, "")) for event in events) for side in ("left", "right"))
        seen.setdefault(events[0]["prompt"][0]["content"], set()).add(" | ".join(said))  # type: ignore[index]
        ann.post("/arena/vote", json={"key": events[0]["key"], "verdict": "tie"})
    assert {len(each) for each in seen.values()} == {1}
    longer = next(vote for vote in votes(place.store, "mine") if vote.later)
    assert longer.answer_a.later and longer.answer_a.tokens > 6  # of both turns
    assert told(ann.post("/arena/match", json={"prompt": "mine?"}))[-1] == {"whole": True}
    ann.post("/jobs/answers")
    assert told(ann.get("/jobs/events"))[-2]["result"] == {"answers": 0, "questions": 3}


def test_an_exam_without_enough_votes_ends_with_what_is_wrong(ann: httpx.Client) -> None:
    assert [each["kind"] for each in ann.get("/jobs").json()["kinds"]] == ["answers", "exam"]
    ann.post("/jobs/exam")
    last = told(ann.get("/jobs/events"))[-2]
    assert last["record"] == "error" and "vote" in str(last["message"])


def test_only_voters_start_work_and_only_what_there_is(place: LiveArena, ann: httpx.Client) -> None:
    assert ann.post("/jobs/rm").status_code == 404
    with httpx.Client(base_url=place.url) as nobody:
        assert nobody.get("/jobs").status_code == nobody.post("/jobs/answers").status_code == 401
        assert nobody.get("/jobs.html").status_code == 200  # it says what is missing
    assert ann.get("/jobs.html").status_code == 200
    assert ann.get("/chat.html").status_code == 404


def test_a_server_that_stops_ends_the_work_that_is_going_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed, name in enumerate(("zeta", "omega")):
        tiny_base(store.path("bases", name), seed=seed)
    many = [Topic(str(n), "", ({"role": "user", "content": f"{n}?"},)) for n in range(200)]
    with serving_arena(store, ("zeta", "omega"), many, ArenaOptions(port=0), Sampling(max_tokens=400)) as place:
        assert httpx.post(f"{place.url}/jobs/answers").json()["running"]
        assert any(thread.name == "nomoat-job" for thread in threading.enumerate())
    assert not any(thread.name == "nomoat-job" for thread in threading.enumerate())


@contextlib.contextmanager
def working(*kinds: tuple[str, Kind]) -> Iterator[tuple[Jobs, TestClient]]:
    jobs = Jobs(dict(kinds))
    app: FastAPI = guarded(Door("127.0.0.1"))
    app.include_router(routes(jobs))
    with TestClient(app, base_url="http://127.0.0.1") as http:
        yield jobs, http
    jobs.close()


def test_one_job_at_a_time_and_it_ends_at_its_next_record_when_stopped() -> None:
    go, closed = threading.Semaphore(0), threading.Event()

    def slow() -> Iterator[Record]:
        try:
            for number in range(100):
                yield Progress("counting", number, 100)
                go.acquire()
        finally:
            closed.set()

    with working(("slow", Kind("Count", slow))) as (_, http):
        assert http.post("/jobs/slow").json()["running"]
        assert http.post("/jobs/slow").status_code == 409
        http.delete("/jobs")
        go.release(200)
        records = told(http.get("/jobs/events"))
        assert [each["record"] for each in records] == ["progress", "note", "end"]  # only the last progress
        assert closed.wait(5)
        assert not http.get("/jobs").json()["running"]


def test_what_ends_a_job_by_error_is_told_and_a_fault_of_ours_without_details() -> None:
    def wrong() -> Iterator[Record]:
        yield Note("so far, so good")
        raise DataError("no rows", hint="add some")

    def ours() -> Iterator[Record]:
        yield Done("x", None, {})
        raise ZeroDivisionError("/a/secret/path")

    with working(("wrong", Kind("", wrong)), ("ours", Kind("", ours))) as (_, http):
        http.post("/jobs/wrong")
        assert "no rows (add some)" in http.get("/jobs/events").text
        http.post("/jobs/ours")
        text = http.get("/jobs/events").text
        assert "ZeroDivisionError" in text and "secret" not in text
