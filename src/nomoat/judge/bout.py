"""Answers for an arena: every model opened once, each answering as a chat, several at the same time."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from typing import Final

from nomoat.core.store import Store
from nomoat.data.rows import Message
from nomoat.engine.names import Worn, open_stacks
from nomoat.engine.options import ServiceOptions
from nomoat.engine.request import NO_TOKEN, Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.service import Service
from nomoat.judge.topics import Topic
from nomoat.judge.votes import Answer, joined
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids

ENGINE: Final = ServiceOptions(max_batch=8, queue=64, cache_mb=256)


class Contestants:
    """The models of an arena by name; those that stand on one base share it, and its engine. Close it.

    Raises what ``open_stack`` raises, before the first question. Safe to use from several threads.
    """

    def __init__(self, store: Store, models: Sequence[str], sampling: Sampling) -> None:
        self._sampling = sampling
        opened = open_stacks(store, models)
        self._services = {id(base.decoder): Service(base, ENGINE) for base, _ in _distinct(opened)}
        self._models = dict(zip(models, opened))

    def request(self, model: str, messages: Sequence[Message]) -> tuple[Service, Request]:
        """The engine that answers for a model, and what to ask of it. Raises ``TemplateError``."""
        base, worn = self._models[model]
        prompt = prompt_ids(base.tokenizer, base.template, messages)
        return self._services[id(base.decoder)], Request(prompt, self._sampling, worn)

    def talk(self, model: str, asked: Topic) -> Answer:
        """The model's answers to all turns of a question, each to what it said itself; waits for them."""
        said: list[Answer] = []
        while len(said) < asked.turns:
            said.append(self.answer(model, asked.conversation([each.text for each in said])))
        return joined(said)

    def answer(self, model: str, messages: Sequence[Message]) -> Answer:
        """The model's answer to a conversation that ends with the user; waits for it."""
        service, request = self.request(model, messages)
        pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        started, text, tokens = time.perf_counter(), "", 0
        service.submit(request, pieces.put)
        while True:
            piece = pieces.get()
            if piece.error is not None:
                raise piece.error
            text += piece.text
            tokens += piece.token != NO_TOKEN
            if piece.finish_reason is not None:
                return Answer(text, tokens, time.perf_counter() - started)

    def close(self) -> None:
        """End the engines."""
        for service in self._services.values():
            service.close()


def _distinct(opened: Sequence[tuple[Base, Worn]]) -> list[tuple[Base, Worn]]:
    """One of those that share a base."""
    return list({id(base.decoder): (base, worn) for base, worn in opened}.values())
