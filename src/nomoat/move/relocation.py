"""A move with everything opened: the old stack, the new base, the skills, and what can be learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.records import Note, Record
from nomoat.core.store import Store
from nomoat.data.encode_options import EncodeOptions
from nomoat.engine.names import Worn, open_base, open_stack, worn_folders
from nomoat.engine.reward import refuse_reward_head
from nomoat.judge.questions import question
from nomoat.judge.task import encoding_of
from nomoat.model.load import Base
from nomoat.move.options import MoveOptions
from nomoat.move.skills import SkillRows, read_skills
from nomoat.train.parents import Origin, adapter_origins, base_origin

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_STEM = 80
_COMPARED = 256  # rows of each skill, to see whether two tokenizers agree


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What a trial of ``steps`` each way chose for the student to learn, and why: a comparison on held-out rows."""

    learn: str
    why: str
    steps: int
    comparison: dict[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Relocation:
    """``learn``: ``logits``, ``aligned`` or ``words``: what of the old stack's answers the student learns.

    It is ``auto`` until a trial has made the ``choice``.
    The adapter is trained as ``unproven``, and becomes ``name`` when every skill has passed. ``lesson`` is the data
    set that it learns. ``origins`` are the old base and the adapters.
    """

    options: MoveOptions
    name: str
    old: Base
    worn: Worn
    new: Base
    skills: tuple[SkillRows, ...]
    learn: str
    origins: tuple[Origin, ...]
    reading: EncodeOptions
    choice: Choice | None = None

    @property
    def unproven(self) -> str:
        return f"{self.name}-unproven"

    @property
    def lesson(self) -> str:
        return f"{self.name}-rows"

    def encoding(self, base: Base) -> EncodeOptions:
        """How rows are read by either base: in the form in which the old stack learned them."""
        most = min(self.options.max_seq_len, base.decoder.config.max_seq_len)
        return dataclasses.replace(self.reading, max_seq_len=most)

    def decided(self, choice: Choice) -> Relocation:
        """The same move after the trial."""
        return dataclasses.replace(self, learn=choice.learn, choice=choice)

    @property
    def digest(self) -> str:
        """Hash of all that the answers follow from."""
        of_answers = ("answers", "rows", "temperature", "max_tokens", "top_k", "max_seq_len", "eval_rows", "seed")
        values = dataclasses.asdict(self.options)
        asked: dict[str, Any] = {key: values[key] for key in of_answers}
        weights = [weight for _, weight in self.worn]
        made_of = [origin.parent.sha256 for origin in (*self.origins, *(skill.origin for skill in self.skills))]
        learn = self.learn if self.choice is None else "auto"
        student = "" if learn == "words" else self.new.fingerprint.exact
        student += f" {learn}" if learn in ("aligned", "auto") else ""
        text = json.dumps([asked, weights, made_of, self.old.fingerprint.exact, student], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def open_relocation(options: MoveOptions, store: Store) -> Generator[Record, None, Relocation]:
    """Open what is moved and where it goes. Raises ``UsageError`` where there is nothing to move, ``NotFound``."""
    old, worn = open_stack(store, options.stack)
    refuse_reward_head(worn, "a move")
    if not worn:
        raise UsageError(
            f"{options.stack!r} wears no adapter: there is no skill to move", hint="name one: BASE+ADAPTER"
        )
    new = open_base(store, options.to)
    if new.fingerprint.exact == old.fingerprint.exact:
        raise UsageError(f"{options.stack!r} stands on {new.name!r} already", hint="nomoat stack A B --name BOTH")
    folders = worn_folders(store, options.stack)
    skills = yield from read_skills(store, folders, options.data)
    agree = _read_alike(old, new, skills)
    if options.learn == "logits" and not agree:
        raise UsageError(
            f"{old.name} and {new.name} cut text into different tokens, so their probabilities cannot be compared",
            hint="--learn aligned, or words",
        )
    learn = "logits" if agree and options.learn != "words" else options.learn
    yield Note(_account(old, worn, new, skills, learn))
    origins = (base_origin(store, old.name, old), *adapter_origins(folders))
    name = options.name or _name(worn, new)
    reading = encoding_of(store, old, worn)
    return Relocation(
        options, store.path("adapters", name).name, old, worn, new, tuple(skills), learn, origins, reading
    )


def _read_alike(old: Base, new: Base, skills: Sequence[SkillRows]) -> bool:
    """Whether both cut the skills' answers into the same tokens: words in common may still be merged differently."""
    if not old.tokenizer.same_words_as(new.tokenizer):
        return False
    rows = [row for skill in skills for row in skill.splits["train"][:_COMPARED]]
    texts = [asked.expected if (asked := question(row)) is not None else str(row.get("text", "")) for row in rows]
    return all(old.tokenizer.encode(text) == new.tokenizer.encode(text) for text in texts)


_ACCOUNTS = {
    "logits": "one tokenizer: learning what it thought of every token",
    "aligned": "learning its words, and what it thought where both cut them alike",
    "words": "learning its words",
    "auto": "learning its words, and what it thought where both cut them alike if a trial says so",
}


def _account(old: Base, worn: Worn, new: Base, skills: list[SkillRows], learn: str) -> str:
    stack = old.name + "".join(f"+{adapter.name}" for adapter, _ in worn)
    return f"from {stack} to {new.name}, {_ACCOUNTS[learn]}; skills: {', '.join(skill.name for skill in skills)}"


def _name(worn: Worn, new: Base) -> str:
    words = "-".join([*(adapter.name for adapter, _ in worn), "on", Path(new.name).name])
    return _ODD.sub("-", words)[:_LONGEST_STEM].strip("-.")
