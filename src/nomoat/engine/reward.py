"""What a reward model gives an answer: a number read off the last token of the whole conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.engine.score import PACK_TOKENS, in_groups
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.model.template import Encoded


def reward_adapter(stack: Stack) -> Adapter | None:
    """The adapter of a stack that brings a reward head. Raises ``UsageError`` where two do."""
    found = [each for each, _ in stack if isinstance(each, Adapter) and each.score is not None]
    if len(found) > 1:
        raise UsageError(f"{found[0].name} and {found[1].name} both bring a reward head", hint="wear one of them")
    return found[0] if found else None


def refuse_reward_head(stack: Stack, what: str) -> None:
    """Raise ``UsageError`` where ``what`` is to be done to a reward model: its head would be lost on the way."""
    adapter = reward_adapter(stack)
    if adapter is not None:
        raise UsageError(
            f"{adapter.name} is a reward model: {what} would lose its head",
            hint=f"PEFT loads the folder of {adapter.name} as it is (AutoModelForSequenceClassification)",
        )


def conversation_ids(base: Base, messages: Sequence[Mapping[str, Any]], answer: str) -> list[int]:
    """Ids of a conversation with its answer, to the end. Raises ``TemplateError``.

    What one side says in a row becomes one message, since many templates take no other.
    """
    merged: list[Mapping[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"]:
            merged[-1] = {**merged[-1], "content": f"{merged[-1]['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return base.tokenizer.encode(base.template.render([*merged, {"role": "assistant", "content": answer}]))


def last_hidden(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """The hidden state of the last token of every segment. (T, D) -> (n, D)."""
    return hidden.index_select(0, torch.tensor(lengths).cumsum(0) - 1)


@torch.inference_mode()
def rewards(base: Base, conversations: Sequence[list[int]], stack: Stack) -> list[float]:
    """The reward of every conversation (token ids), by the head that the stack brings.

    Raises ``UsageError`` for a stack without one, and for a conversation that is empty or exceeds the context.
    """
    adapter, most = reward_adapter(stack), base.decoder.config.max_seq_len
    if adapter is None or adapter.score is None:
        raise UsageError("no adapter of this stack brings a reward head", hint="nomoat school --kind reward")
    for number, ids in enumerate(conversations):
        if not 0 < len(ids) <= most:
            raise UsageError(f"conversation {number} has {len(ids):,} tokens and the context holds 1 to {most:,}")
    found: list[float] = []
    for group in in_groups([Encoded(ids, []) for ids in conversations], PACK_TOKENS):
        lengths = [len(row.ids) for row in group]
        hidden = base.decoder(torch.tensor([token for row in group for token in row.ids]), Layout(lengths), stack)
        found += (last_hidden(hidden, lengths) @ adapter.score[0]).tolist()
    return found
