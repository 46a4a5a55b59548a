"""A reward model as judge of pairs: the difference of two rewards is the log-odds that it was trained for.

It reads each answer alone, so no order can sway it, and it needs one forward pass an answer. A right answer that a pair
brings along is not shown to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nomoat.core.records import Progress
from nomoat.data.rows import Message
from nomoat.engine.reward import conversation_ids, reward_adapter, rewards
from nomoat.judge.measure import Measuring, Subject
from nomoat.judge.pairwise import Asked, Pair
from nomoat.kernels.quick import quick_products

_AT_ONCE: Final = 16


def is_reward_model(subject: Subject) -> bool:
    """Whether the stack brings a reward head. Raises ``UsageError`` where it brings two."""
    return reward_adapter(subject.stack) is not None


def reward_judge(subject: Subject) -> Asked:
    """The judge; an answer is scored once, however often it is met. Raises ``UsageError`` as ``rewards`` does."""
    known: dict[str, float] = {}

    def asked(pairs: Sequence[Pair]) -> Measuring[list[float]]:
        sides = [(pair.messages, text) for pair in pairs for text in (pair.first, pair.second)]
        new = list({repr(side): side for side in sides if repr(side) not in known}.values())
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            ids = [conversation_ids(subject.base, messages, text) for messages, text in part]
            with quick_products(parts=1):  # as it sits its exam
                found = rewards(subject.base, ids, subject.stack)
            known.update(zip(map(repr, part), found))
            yield Progress("verdicts", start + len(part), len(new), "answers")
        return [known[repr(first)] - known[repr(second)] for first, second in zip(sides[::2], sides[1::2])]

    return asked


def reward_fits(subject: Subject, messages: tuple[Message, ...], answers: str) -> bool:
    """Whether a conversation with ``answers``, all of them in one text, is within the context."""
    return len(conversation_ids(subject.base, messages, answers)) <= subject.base.decoder.config.max_seq_len
