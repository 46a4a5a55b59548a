"""A Go template for Ollama that writes what the model's own Jinja template writes.

The Jinja template is asked about conversations of marks; what stands around the marks is what each role begins and ends
with. From that a Go template is written, and checked: both must write the same text for conversations of every shape
(``check_template``). A template that does more than put text around messages is refused.

How Ollama uses a template is from its ``template/template.go`` and ``server/routes.go``: messages of one role in a row
are joined, the model's SYSTEM is put in front where a conversation has no system message of its own, and the tokenizer
adds BOS where the model file asks for it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nomoat.core.errors import TemplateError
from nomoat.export.go_template import GoTemplate, quoted
from nomoat.model.template import ChatTemplate

Message = Mapping[str, Any]
_HINT = "serve it with nomoat serve, or with llama-server, which reads the model's own template"
_S, _U, _A, _V = "SYSTEMxMARK", "USERxMARK", "ANSWERxMARK", "AGAINxMARK"


@dataclasses.dataclass(frozen=True, slots=True)
class OllamaTemplate:
    """``source`` is the Go template, ``system`` the model's own default system message (empty: none)."""

    source: str
    system: str

    def render(self, messages: Sequence[Message]) -> str:
        """What Ollama writes for a conversation, the beginning of the answer included; without the tokenizer's BOS."""
        asked = [dict(message) for message in messages]
        if self.system and (not asked or asked[0]["role"] != "system"):
            asked.insert(0, {"role": "system", "content": self.system})
        said = [
            {"Role": role, "Content": "\n\n".join(str(message["content"]) for message in group)}
            for role, group in itertools.groupby(asked, key=lambda message: message["role"])
        ]
        system = "\n\n".join(message["Content"] for message in said if message["Role"] == "system")
        return GoTemplate(self.source).render({"Messages": said, "System": system})


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """What stands around messages. ``inside``: around a system message that stands in the first user's turn."""

    start: str
    user: tuple[str, str]
    answer: tuple[str, str]
    handover: str
    system: tuple[str, str] | None = None
    inside: tuple[str, str] | None = None
    default_system: str = ""


def derive_template(template: ChatTemplate, *, bos: str) -> OllamaTemplate:
    """The Go template for ``template``; ``bos`` is what the runtime's tokenizer will add itself (empty: nothing).

    Raises ``TemplateError`` where none that is written here says the same.
    """
    parts = _take_apart(template)
    start = parts.start.removeprefix(bos)
    derived = OllamaTemplate(_source(parts, start), parts.default_system)
    for messages in _shapes(with_system=parts.system is not None or parts.inside is not None):
        check_template(template, derived, messages, bos=bos)
    return derived


def check_template(template: ChatTemplate, derived: OllamaTemplate, messages: Sequence[Message], *, bos: str) -> None:
    """Raise ``TemplateError`` unless both write the same for a conversation that waits for an answer."""
    expected = template.render(messages, add_generation_prompt=True).removeprefix(bos)
    got = derived.render(messages)
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        raise TemplateError(
            f"no Go template is known that writes what the chat template of the model writes: at character {at},"
            f" {got[at : at + 20]!r} instead of {expected[at : at + 20]!r}",
            hint=_HINT,
        )


def _take_apart(template: ChatTemplate) -> _Parts:
    asks = [{"role": "user", "content": _U}]
    goes_on = [*asks, {"role": "assistant", "content": _A}, {"role": "user", "content": _V}]
    head, middle, again, tail = _around(template.render(goes_on, add_generation_prompt=True), _U, _A, _V)
    user_end = _around(template.render(asks), _U)[1]
    if not middle.startswith(user_end) or not tail.startswith(user_end):
        user_end = ""  # what follows a user's turn is then the answer's
    handover, answer_start = tail.removeprefix(user_end), middle.removeprefix(user_end)
    user_start = _common_end(head.removeprefix(template.variables.get("bos_token", "")), again)
    parts = _Parts(
        start=head.removesuffix(user_start),
        user=(user_start, user_end),
        answer=(answer_start, again.removesuffix(user_start)),
        handover=handover,
    )
    return _with_system(parts, template, goes_on, head)


def _with_system(parts: _Parts, template: ChatTemplate, goes_on: list[dict[str, str]], head: str) -> _Parts:
    """The parts with what is known of system messages; without where the template refuses or drops them."""
    try:
        text = template.render([{"role": "system", "content": _S}, *goes_on], add_generation_prompt=True)
    except TemplateError:
        return parts
    if text.count(_S) != 1:
        return parts
    before, between, _ = _around(text, _S, _U)
    user = parts.user[0]
    if before.startswith(head):  # as Gemma and Llama 2 have it
        return dataclasses.replace(parts, inside=(before.removeprefix(head), between))
    if not between.endswith(user):
        raise TemplateError("the chat template begins a user's turn in more than one way", hint=_HINT)
    own = between.removesuffix(user)
    if parts.start.startswith(before) and parts.start.endswith(own) and len(parts.start) > len(before) + len(own):
        default = parts.start[len(before) : len(parts.start) - len(own)]  # it speaks for itself where nobody does
        return dataclasses.replace(parts, start="", system=(before, own), default_system=default)
    if not before.startswith(parts.start):
        raise TemplateError("the chat template begins differently with a system message", hint=_HINT)
    return dataclasses.replace(parts, system=(before.removeprefix(parts.start), own))


def _around(text: str, *marks: str) -> list[str]:
    """The text before, between and after the marks, each of which stands there once."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise TemplateError("the chat template leaves out a message, or says it twice", hint=_HINT)
        pieces.append(before)
    return [*pieces, text]


def _common_end(a: str, b: str) -> str:
    """The longest common end that begins a line or a control token, so that turns are cut where people cut them."""
    n = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b))))
    end = a[len(a) - n :]
    return end.lstrip("\n") if end != a else end


def _source(parts: _Parts, start: str) -> str:
    lines = [_text(start)] if start else []
    lines += [
        "{{- range $i, $_ := .Messages }}",
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
        *_turns(parts),
        f'{{{{- if and $last (ne .Role "assistant") }}}}{_text(parts.handover)}{{{{ end }}}}',
        "{{- end }}",
    ]
    return "\n".join(lines)


def _turns(parts: _Parts) -> Iterator[str]:
    first = ""
    if parts.inside is not None:
        before, after = map(_text, parts.inside)
        first = "{{ if and $.System (le $i 1) }}" + before + "{{ $.System }}" + after + "{{ end }}"
    yield f'{{{{- if eq .Role "user" }}}}{_text(parts.user[0])}{first}{{{{ .Content }}}}{_text(parts.user[1])}'
    if parts.system is not None:
        before, after = map(_text, parts.system)
        yield f'{{{{- else if eq .Role "system" }}}}{before}{{{{ .Content }}}}{after}'
    begin, end = parts.answer
    unless_last = "{{ if not $last }}" + _text(end) + "{{ end }}"
    yield f'{{{{- else if eq .Role "assistant" }}}}{_text(begin)}{{{{ .Content }}}}{unless_last}'
    yield "{{- end }}"


def _text(text: str) -> str:
    """As a literal, so that no white space is lost to trimming."""
    return "{{ " + quoted(text) + " }}" if text else ""


def _shapes(*, with_system: bool) -> Iterator[list[dict[str, str]]]:
    """Conversations of every shape that waits for an answer."""
    turns = ["How many are 2 + 3?", "Five.", 'And in "Roman" numerals?\n\nJust {that}.', "V", "Danke – schön 🍂"]
    roles = itertools.cycle(("user", "assistant"))
    talk = [{"role": role, "content": text} for role, text in zip(roles, turns)]
    for n in (1, 3, 5):
        yield talk[:n]
        if with_system:
            yield [{"role": "system", "content": "You are brief.\nAlways."}, *talk[:n]]
