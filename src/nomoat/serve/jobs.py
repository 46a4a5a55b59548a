"""Long work of a server: a generator of records on a thread of its own, told to whoever asks as server-sent events."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Response

from nomoat.core.errors import NomoatError
from nomoat.core.records import Note, Progress, Record, as_json
from nomoat.serve.errors import RequestError, openai_body
from nomoat.serve.events import SSE_TYPE, sse
from nomoat.serve.stream import Streamed

_TICK_S: Final = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work: what it is, for a person, and how it begins."""

    words: str
    begin: Callable[[], Iterator[Record]]


class Jobs:
    """One job at a time, of these kinds. Every method may be called from any thread."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self._lock = threading.Lock()
        self._told: list[tuple[int, dict[str, Any]]] = []
        self._count, self._name = 0, ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def state(self) -> dict[str, Any]:
        """What can be started, what was started last, and whether it is going on."""
        kinds = [{"kind": name, "words": kind.words} for name, kind in self.kinds.items()]
        return {"kinds": kinds, "job": self._name, "running": self.running}

    def start(self, name: str) -> None:
        """Begin a job. Raises ``RequestError``: 404 for an unknown kind, 409 while another goes on."""
        kind = self.kinds.get(name)
        if kind is None:
            raise RequestError(f"no job {name[:40]!r}", status=404, code="not_found", hint=", ".join(self.kinds))
        with self._lock:
            if self.running:
                raise RequestError("a job is going on already", status=409, code="busy", hint="stop it, or wait")
            self._told, self._name = [], name
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(kind.begin, self._stop), name="nomoat-job", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the job at its next record."""
        self._stop.set()

    def close(self) -> None:
        """End the job and wait until it has ended."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, begin: Callable[[], Iterator[Record]], stop: threading.Event) -> None:
        try:
            for record in begin():
                if stop.is_set():
                    self._keep(as_json(Note("stopped", warning=True)))
                    return  # the generator is closed when it is dropped
                self._keep(as_json(record))
        except NomoatError as error:
            self._keep({"record": "error", **openai_body(error)["error"]})
        except Exception as error:  # a fault of ours ends the job, not the server
            self._keep({"record": "error", "message": f"the job failed: {type(error).__name__}"})

    def _keep(self, told: dict[str, Any]) -> None:
        """Progress takes the place of earlier progress: who comes late is told the last."""
        is_progress = told["record"] == Progress.__name__.lower()
        with self._lock:
            self._count += 1
            if is_progress and self._told and self._told[-1][1]["record"] == told["record"]:
                self._told.pop()
            self._told.append((self._count, told))

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """What the job has told so far, and goes on telling until it ends."""
        last, going = 0, True
        while going:
            going = self.running
            with self._lock:
                new = [(number, told) for number, told in self._told if number > last]
            for number, told in new:
                last = number
                yield told
            if going:
                await asyncio.sleep(_TICK_S)


def routes(jobs: Jobs) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.get("/jobs")
    async def state() -> dict[str, Any]:
        return jobs.state()

    @router.post("/jobs/{kind}")
    async def start(kind: str) -> dict[str, Any]:
        jobs.start(kind)
        return jobs.state()

    @router.delete("/jobs")
    async def stop() -> dict[str, Any]:
        jobs.stop()
        return jobs.state()

    @router.get("/jobs/events")
    async def events() -> Response:
        return Streamed(_events(jobs), SSE_TYPE)

    return router


async def _events(jobs: Jobs) -> AsyncGenerator[bytes, None]:
    async for told in jobs.follow():
        yield sse(told)
    yield sse({"record": "end"})
