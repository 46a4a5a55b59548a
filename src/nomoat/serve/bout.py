"""One match on its way to the browser: two answers, written side by side, shown at one pace."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence

from nomoat.core.errors import NomoatError
from nomoat.data.rows import Message
from nomoat.engine.request import NO_TOKEN
from nomoat.judge.bout import Contestants
from nomoat.judge.pace import Pace, Written
from nomoat.judge.votes import Answer
from nomoat.serve.answers import Answers

TICK_S = 0.08


@dataclasses.dataclass(slots=True)
class Side:
    """An answer that is being written."""

    answers: Answers
    text: str = ""
    tokens: int = 0
    started: float = dataclasses.field(default_factory=time.perf_counter)
    seconds: float = 0.0
    complete: bool = False

    async def write(self) -> None:
        """Take in the pieces until the last."""
        async for _, piece in self.answers:
            self.text += piece.text
            self.tokens += piece.token != NO_TOKEN
        self.seconds, self.complete = time.perf_counter() - self.started, True

    @property
    def written(self) -> Written:
        return Written(len(self.text), self.complete)

    @property
    def answer(self) -> Answer:
        return Answer(self.text, self.tokens, self.seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """One turn whose answers were written ahead: both stand at once, whoever wrote faster then."""

    answers: tuple[Answer, Answer]

    async def frames(self, *, hold: bool) -> AsyncIterator[dict[str, str]]:
        """Both answers whole."""
        left, right = self.answers
        yield {"left": left.text, "right": right.text}

    def close(self) -> None:
        """Nothing is being written."""


class Bout:
    """Both answers of one turn. Make it on the event loop; close it, and what is not written is given up."""

    def __init__(self, contestants: Contestants, sides: Sequence[tuple[str, Sequence[Message]]]) -> None:
        """Ask both models, each for its conversation. Raises ``Busy``, ``UsageError`` and ``TemplateError``.

        None of these names a model.
        """
        asked = [contestants.request(name, messages) for name, messages in sides]
        self._sides: list[Side] = []
        try:
            for service, request in asked:
                self._sides.append(Side(Answers(service)))
                self._sides[-1].answers.ask(request)
        except NomoatError:
            self.close()
            raise

    async def frames(self, *, hold: bool) -> AsyncIterator[dict[str, str]]:
        """What to add to the left and to the right, until both stand whole. Raises what ended an answer."""
        left, right = self._sides
        pace, shown = Pace(hold=hold), 0
        tasks = [asyncio.ensure_future(side.write()) for side in self._sides]
        try:
            while not (left.complete and right.complete and shown >= max(len(left.text), len(right.text))):
                await asyncio.sleep(TICK_S)
                for task in tasks:
                    if task.done():
                        task.result()
                now = pace.advance(time.perf_counter(), left.written, right.written)
                if now > shown:
                    yield {"left": left.text[shown:now], "right": right.text[shown:now]}
                    shown = now
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    @property
    def answers(self) -> tuple[Answer, Answer]:
        """Left and right, as far as they are written."""
        left, right = self._sides
        return left.answer, right.answer

    def close(self) -> None:
        """Give up what is not written yet."""
        for side in self._sides:
            side.answers.close()
