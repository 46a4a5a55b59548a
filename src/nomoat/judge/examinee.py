"""Whoever may judge pairs: a stack of this machine, or an endpoint that the user named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

from nomoat.core.errors import UsageError
from nomoat.core.records import Note, Record
from nomoat.core.store import Store
from nomoat.data.rows import Message
from nomoat.engine.names import open_stack
from nomoat.judge.familiar import Familiar, own_words
from nomoat.judge.manner import judge_of
from nomoat.judge.measure import Subject
from nomoat.judge.pairwise import Asked, fits
from nomoat.judge.remote import is_remote, remote_judge
from nomoat.judge.reward import is_reward_model, reward_fits, reward_judge

_LONGEST: Final = 60_000  # characters that an endpoint is sent for one verdict
Reads = Callable[[tuple[Message, ...], str, int], bool]
"""Whether a judge can read a conversation with these answers whole, and has that many tokens left to write."""
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Examinee:
    """``make`` gives the judge of a manner; ``familiar`` is not known of an endpoint."""

    make: Callable[[str], Asked]
    reads: Reads
    familiar: Familiar | None


def local(subject: Subject) -> Examinee:
    """A base wearing a stack: a reward model where the stack brings a head, else asked in words."""
    if not is_reward_model(subject):
        return Examinee(lambda manner: judge_of(subject, manner), reads_of(subject), own_words(subject))

    def make(manner: str) -> Asked:
        if manner != "likelihood":
            raise UsageError("a reward model writes nothing, it scores at once", hint="--verdict likelihood")
        return reward_judge(subject)

    return Examinee(make, lambda messages, answers, _: reward_fits(subject, messages, answers), own_words(subject))


def reads_of(subject: Subject) -> Reads:
    """By the tokens of the judge's own prompt."""
    return lambda messages, answers, room: fits(subject, messages, answers, room=room)


def within_context(items: Sequence[_T], fits: Callable[[_T], bool], what: str) -> Generator[Record, None, list[_T]]:
    """The items that the judge can read; says how many it cannot. Raises ``UsageError`` where it can read none."""
    kept = [each for each in items if fits(each)]
    if not kept:
        raise UsageError(f"not one of the {what} fits into the judge's context", hint="a judge with a longer one")
    if len(kept) < len(items):
        left = len(items) - len(kept)
        yield Note(
            f"{left} of {len(items)} {what} are left out: they do not fit into the judge's context", warning=True
        )
    return kept


def open_judge(store: Store, word: str) -> Generator[Record, None, Examinee]:
    """The judge that a name or ``URL#MODEL`` means; what leaves this machine is said before it does.

    Raises what ``open_stack`` raises, ``UsageError`` for a URL without a model.
    """
    if not is_remote(word):
        base, worn = open_stack(store, word)
        return local(Subject(base, worn, "judge", store))
    judge = remote_judge(word)
    yield Note(
        f"questions, both answers and references of every pair, the labelled ones too, are sent to "
        f"{urlsplit(word).netloc}",
        warning=True,
    )

    def make(manner: str) -> Asked:
        if manner != "likelihood":
            raise UsageError("an endpoint judges at once", hint="--verdict likelihood")
        return judge

    return Examinee(make, lambda messages, answers, _: len(str(messages)) + len(answers) < _LONGEST, None)
