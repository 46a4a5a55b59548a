"""Answers for an arena: every model opened once, each answering a question as a chat."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.core.store import Store
from nomoat.data.rows import Message
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import Worn, open_stack
from nomoat.engine.sampling import Sampling
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids


class Contestants:
    """The models of an arena by name. Raises what ``open_stack`` raises, before the first question."""

    def __init__(self, store: Store, models: Sequence[str], sampling: Sampling) -> None:
        self._sampling = sampling
        self._open: dict[str, tuple[Base, Worn]] = {name: open_stack(store, name) for name in models}

    def answer(self, model: str, messages: Sequence[Message]) -> str:
        """The model's answer to a conversation that ends with the user."""
        base, worn = self._open[model]
        prompt = prompt_ids(base.tokenizer, base.template, messages)
        return Engine(base, max_batch=1).complete([Request(prompt, self._sampling, worn)])[0].text
