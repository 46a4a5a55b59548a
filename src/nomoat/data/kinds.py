"""The kinds of rows we know, in the order in which they are tried; the first that fits is the guess."""

from __future__ import annotations

import dataclasses
import difflib
import shlex
from collections.abc import Callable
from typing import Any

from nomoat.core.errors import DataError
from nomoat.data import choices, convert
from nomoat.data.convert import ASSISTANT_TEXT, INPUTS, SYSTEM, TOOLS, Fit, Raw
from nomoat.data.messages import has_other_media
from nomoat.data.rows import Place, Row

_BETTER_AND_WORSE = (
    ("chosen", "rejected"),
    ("response_j", "response_k"),
    ("reply_a", "reply_b"),
    ("response_a", "response_b"),
    ("output_1", "output_2"),
)
_PROMPT_ALIASES = ("response", "answer", "output", "target")
_PAIR_ALIASES = (
    ("question", "answer"),
    ("question", "response"),
    ("question", "solution"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("input", "output"),
    ("input", "target"),
    ("source", "target"),
)
_LABELS = ("label", "labels", "sentiment", "class", "category_label", "summary")
_COMMON = ("prompt", "completion", "messages", "conversations", "instruction", "output", "question", "answer", "text")
_MEDIA_FIELDS = ("image", "images", "audio", "audios", "video", "videos")
_LEARN_BETTER = (
    "preference data teaches by comparison, which tuning does not; to learn the better answers alone: "
    "--prompt-field FIELD --completion-field FIELD"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A dialect: how it is recognised, how it becomes rows, or why it is refused."""

    name: str
    fits: Callable[[Raw], Fit | None]
    convert: Callable[[Raw, Place, Fit], list[Row]] | None = None
    uses: tuple[str, ...] = ()
    refusal: str = ""
    hint: str = ""


def _preference(raw: Raw) -> Fit | None:
    for better, worse in _BETTER_AND_WORSE:
        if raw.get(better) is not None and raw.get(worse) is not None:
            return Fit(f"fields {better!r} and {worse!r} compare two answers", better, worse)
    if "instruction" in raw and isinstance(raw.get("output"), list):
        return Fit("'output' is a list of ranked answers")
    return None


def _good_or_bad(raw: Raw) -> Fit | None:
    asked = any(field in raw for field in ("prompt", "messages", "instruction", "conversations"))
    mark = next((field for field in ("label", "kto_tag", "tag") if isinstance(raw.get(field), bool)), None)
    return Fit(f"{mark!r} marks answers as good or bad") if asked and mark else None


def _tree(raw: Raw) -> Fit | None:
    prompt = raw.get("prompt")
    found = isinstance(prompt, dict) and "replies" in prompt
    return Fit("'prompt' is a tree of replies (Open Assistant)") if found else None


def _messages(raw: Raw) -> Fit | None:
    for field in ("messages", "conversations", "conversation"):
        if raw.get(field) is not None and _speaker(raw[field]) != "from":
            return Fit(f"field {field!r} holds a conversation", field)
    return None


def _sharegpt(raw: Raw) -> Fit | None:
    for field in ("conversations", "conversation", "messages"):
        if raw.get(field) is not None and _speaker(raw[field]) == "from":
            return Fit(f"field {field!r} holds turns with 'from' and 'value'", field)
    return None


def _speaker(turns: Any) -> str:
    first = turns[0] if isinstance(turns, list) and turns else turns
    return "from" if isinstance(first, dict) and "from" in first and "role" not in first else "role"


def _seed_task(raw: Raw) -> Fit | None:
    found = "instruction" in raw and isinstance(raw.get("instances"), list)
    return Fit("an 'instruction' with 'instances' (Self-Instruct)") if found else None


def _alpaca(raw: Raw) -> Fit | None:
    answer = next((field for field in ASSISTANT_TEXT if field in raw), None)
    if "instruction" not in raw or answer is None:
        return None
    return Fit(f"fields 'instruction' and {answer!r}", "instruction", answer)


def _pair(raw: Raw) -> Fit | None:
    if "prompt" in raw and "completion" in raw:
        return Fit("fields 'prompt' and 'completion'", "prompt", "completion")
    answer = next((field for field in _PROMPT_ALIASES if "prompt" in raw and field in raw), None)
    if answer is None and "prompt" in raw and isinstance(raw.get("label"), str):
        answer = "label"
    return Fit(f"field {answer!r} is taken as the answer to 'prompt'", "prompt", answer) if answer else None


def _pair_alias(raw: Raw) -> Fit | None:
    for asked, answer in _PAIR_ALIASES:
        if asked in raw and answer in raw:
            return Fit(f"{asked!r} is taken as the prompt, {answer!r} as the answer", asked, answer)
    return None


def _labelled_text(raw: Raw) -> Fit | None:
    label = next((field for field in _LABELS if raw.get(field) is not None), None)
    return Fit(f"'text' with a {label!r}", "text", label) if "text" in raw and label else None


def _text(raw: Raw) -> Fit | None:
    field = next((field for field in ("text", "content") if isinstance(raw.get(field), str)), None)
    return Fit(f"field {field!r} and no field that looks like an answer", field) if field else None


KINDS = (
    Kind("preference", _preference, refusal="rows of better and worse answers", hint=_LEARN_BETTER),
    Kind("kto", _good_or_bad, refusal="rows of answers marked good or bad", hint=_LEARN_BETTER),
    Kind(
        "tree",
        _tree,
        refusal="trees of ranked replies",
        hint="write one conversation a row: {'messages': [...]}",
    ),
    Kind("messages", _messages, convert.from_messages, (*SYSTEM, *TOOLS)),
    Kind("sharegpt", _sharegpt, convert.from_messages, (*SYSTEM, *TOOLS)),
    Kind("self-instruct", _seed_task, convert.from_seed_task, ("instruction", "instances")),
    Kind("alpaca", _alpaca, convert.from_alpaca, ("instruction", "history", *SYSTEM, *INPUTS)),
    Kind("prompt-completion", _pair, convert.from_pair, (*SYSTEM, *TOOLS)),
    Kind("choices", choices.fits, choices.convert, ("question", *choices.CONTEXTS)),
    Kind("prompt-completion", _pair_alias, convert.from_pair, SYSTEM),
    Kind(
        "labelled text",
        _labelled_text,
        refusal="texts with labels",
        hint="--prompt-field text --completion-field label if the label is to be answered, or --format text",
    ),
    Kind("text", _text, convert.from_text),
)
FORMATS = ("auto", "text", "prompt-completion", "alpaca", "messages", "sharegpt", "choices", "self-instruct")
_NAMED = {
    "text": Fit("--format text", "text"),
    "prompt-completion": Fit("--format prompt-completion", "prompt", "completion"),
    "alpaca": Fit("--format alpaca", "instruction", "output"),
    "messages": Fit("--format messages", "messages"),
    "sharegpt": Fit("--format sharegpt", "conversations"),
    "choices": Fit("--format choices", "choices", "answer"),
    "self-instruct": Fit("--format self-instruct"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Guess:
    """A kind, why it was taken, and whether the user chose it."""

    kind: Kind
    fit: Fit
    forced: bool = False

    def convert(self, raw: Raw, place: Place) -> list[Row]:
        """Rows of one raw row. Raises ``DataError`` where it does not fit, or where the kind is refused."""
        if self.kind.convert is None:
            raise place.error(f"{self.kind.refusal}: {self.fit.why}", hint=self.kind.hint)
        return self.kind.convert(raw, place, self.fit)

    def ignored(self, raw: Raw) -> list[str]:
        """Fields of the row that are not read."""
        used = {*self.kind.uses, self.fit.prompt, self.fit.completion}
        return [str(field) for field in raw if field not in used]


def guess(raw: Raw) -> Guess | None:
    """The first kind that fits."""
    for kind in KINDS:
        fit = kind.fits(raw)
        if fit is not None:
            return Guess(kind, fit)
    return None


def named(name: str, raw: Raw) -> Guess:
    """The kind that the user named, with the fields as this row has them where the kind allows aliases."""
    kinds = [kind for kind in KINDS if kind.name == name]
    for kind in kinds:
        fit = kind.fits(raw)
        if fit is not None:
            return Guess(kind, fit._replace(why=f"--format {name}"), forced=True)
    return Guess(kinds[0], _NAMED[name], forced=True)


def by_fields(prompt: str, completion: str) -> Guess:
    """Two fields that the user named."""
    kind = next(kind for kind in KINDS if kind.name == "prompt-completion")
    return Guess(kind, Fit("the fields you named", prompt, completion), forced=True)


def by_text_field(field: str) -> Guess:
    """One field that the user named, to be learned whole."""
    kind = next(kind for kind in KINDS if kind.name == "text")
    return Guess(kind, Fit("the field you named", field), forced=True)


def in_lower_case(raw: Raw) -> Raw:
    """The row with the names of its fields in lower case where only so it is known: spreadsheets write ``Question``."""
    lower = {str(field).strip().lower(): value for field, value in raw.items()}
    changed = lower.keys() != raw.keys() and len(lower) == len(raw)
    return lower if changed and guess(raw) is None and guess(lower) is not None else raw


def unknown(raw: Raw, place: Place) -> DataError:
    """The error for a row of no known kind."""
    fields = ", ".join(repr(str(field)) for field in list(raw)[:12]) or "none"
    return place.error(f"no known kind of row; its fields: {fields}", hint=_how_to_say(raw, place))


def _how_to_say(raw: Raw, place: Place) -> str:
    """What names the fields to learn: as a command where the row has two, with the likely slip where there is one."""
    names = [shlex.quote(str(field)) for field in raw] if len(raw) == 2 else ["FIELD", "FIELD"]
    ways = f"say which to learn: --prompt-field {names[0]} --completion-field {names[1]}, or --text-field FIELD"
    for field in raw:
        meant = difflib.get_close_matches(str(field), [known for known in _COMMON if known not in raw], 1, 0.8)
        if meant:
            return f"is {str(field)!r} meant to be {meant[0]!r}? Or {ways}"
    table = place.file.lower().endswith((".csv", ".tsv"))
    return ways + ("; the first line of a table names its columns" if table else "")


def needs_media(raw: Raw) -> bool:
    """Whether the row cannot be understood without an image or sound."""
    turns = raw.get("messages") or raw.get("conversations")
    return any(raw.get(field) for field in _MEDIA_FIELDS) or has_other_media(turns)
