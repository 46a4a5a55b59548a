"""Chat templates: messages to text, and to token ids with a loss mask.

The text is the one of ``apply_chat_template`` of transformers, and so are the ids: the whole text is tokenized at once
and nothing is added. So BOS is there when the template writes it, once, whatever the tokenizer would add by itself.

Text that spells a control token inside a message becomes that token, as it does in transformers: rows to train on are
their owner's, who is trusted with them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from nomoat.core.errors import TemplateError
from nomoat.formats.gguf import GgufFile
from nomoat.model.template_default import default_source
from nomoat.model.template_mask import Message, Span, free_marks, tagged_spans, turn_spans
from nomoat.model.template_messages import plain, prepared, takes_parts
from nomoat.model.template_sandbox import Sandbox
from nomoat.model.tokenizer import Tokenizer
from nomoat.model.tokenizer_hf import read_settings

_TAGGED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_VARIABLES = ("bos", "eos", "pad", "unk")
_MOST_BYTES = 1 << 20  # the longest template in use is a few dozen kB


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and for each whether it is learned: what the assistant says and the token that ends its turn."""

    ids: list[int]
    loss_mask: list[bool]

    @property
    def learned(self) -> list[int]:
        """The tokens that are learned; the first of a row never is, since nothing comes before it."""
        return [token for token, learned in zip(self.ids[1:], self.loss_mask[1:], strict=True) if learned]


class ChatTemplate:
    """``kind``: "base" for the model's own, "default" for ours, "adapter" for one that an adapter brought.

    ``variables``: ``bos_token`` and the like. ``tool_source``: the template for conversations with tools, where a model
    has a separate one. Compiled when first used, so that a base with a broken template still opens.
    """

    def __init__(
        self, source: str, *, kind: str = "base", variables: Mapping[str, str] | None = None, tool_source: str = ""
    ) -> None:
        self.source, self.kind, self.tool_source = source, kind, tool_source
        self.variables = dict(variables or {})

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as text. ``tools``: JSON schemas. Raises ``TemplateError``, limits included."""
        use = self._program(tools)
        return use.text(prepared(messages, takes_parts=use.takes_parts), add_generation_prompt)

    def said(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None,
        ends: Sequence[str],
    ) -> tuple[str, list[Span], bool]:
        """The text, what of it the assistant said, in characters, and whether the template itself says so.

        ``ends``: end-of-turn tokens as text. Raises ``TemplateError`` where a span cannot be told exactly.
        """
        use = self._program(tools)
        conversation = prepared(messages, takes_parts=use.takes_parts)
        text = use.text(conversation, False)
        if use.tagged:
            marks = free_marks(text, 1)
            return text, tagged_spans(text, use.text(conversation, False, marks.pair(0)), marks), True
        return text, turn_spans(use.text, conversation, text, ends), False

    def _program(self, tools: Sequence[Mapping[str, Any]] | None) -> _Program:
        compiled = self._with_tools if tools and self.tool_source else self._plain
        return _Program(*compiled, variables=self.variables, tools=plain(tools) if tools else None)

    @functools.cached_property
    def _plain(self) -> tuple[Sandbox, jinja2.Template, bool, bool]:
        return _compiled(self.source)

    @functools.cached_property
    def _with_tools(self) -> tuple[Sandbox, jinja2.Template, bool, bool]:
        return _compiled(self.tool_source)


def _compiled(source: str) -> tuple[Sandbox, jinja2.Template, bool, bool]:
    sandbox = Sandbox()
    template = sandbox.compiled(source)
    return sandbox, template, _TAGGED.search(source) is not None, takes_parts(sandbox.parse(source))


@dataclass(frozen=True, slots=True)
class _Program:
    """A compiled template with everything but the messages."""

    sandbox: Sandbox
    template: jinja2.Template
    tagged: bool
    takes_parts: bool
    variables: dict[str, str]
    tools: list[Any] | None

    def text(
        self, messages: Sequence[Message], add_generation_prompt: bool, marks: tuple[str, str] | None = None
    ) -> str:
        names: dict[str, Any] = {
            "messages": list(messages),
            "tools": self.tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self.variables,
        }
        return self.sandbox.run(self.template, names, marks=marks)


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Encoded:
    """Ids of the whole conversation; the mask covers each assistant turn and its end-of-turn token, exactly.

    Role headers and what follows the end of a turn are not learned. A token that holds the last character of a header
    and the first of the content is, since it is what the model has to say. Raises ``TemplateError`` where the template
    refuses the messages or a turn cannot be told exactly, ``DataError`` for a string that is not valid Unicode.
    """
    ends = [tokenizer.text_of(token) for token in tokenizer.eos_ids]
    text, spans, tagged = template.said(messages, tools=tools, ends=[end for end in ends if end])
    ids, places = tokenizer.encode_spans(text)
    control = frozenset(tokenizer.specials.values())
    mask = [False] * len(ids)
    at = 0
    for start, end in spans:
        while at < len(ids) and places[at][1] <= start:
            at += 1
        if at < len(ids) and places[at][0] < start and ids[at] in control:
            if text[start : places[at][1]].strip():
                raise TemplateError(f"an assistant's turn begins inside of {tokenizer.text_of(ids[at])!r}")
            at += 1  # a header of Phi-3, which takes the white space after it along
        first = at
        while at < len(ids) and places[at][0] < end:
            at += 1
        mask[first:at] = [True] * (at - first)
        if not tagged and (at == first or ids[at - 1] not in tokenizer.eos_ids):
            raise TemplateError(f"an assistant's turn ends with {text[start:end][-20:]!r}, which is not one token")
    return Encoded(ids, mask)


def prompt_ids(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Ids of the conversation up to where the model is to go on. Raises as ``encode_chat``."""
    return tokenizer.encode(template.render(messages, tools=tools, add_generation_prompt=True))


def template_from_gguf(gguf: GgufFile, tokenizer: Tokenizer) -> ChatTemplate:
    """The template in a GGUF file's metadata, or the default."""
    source = gguf.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str) or not source.strip():
        return default_template(tokenizer)
    tool_source = gguf.metadata.get("tokenizer.chat_template.tool_use")
    return ChatTemplate(
        source,
        variables=_variables(tokenizer),
        tool_source=tool_source if isinstance(tool_source, str) else "",
    )


def template_from_folder(folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
    """``chat_template.jinja``, else the one in ``tokenizer_config.json``, else the default.

    Raises ``BadHeader`` for settings that are not JSON, ``TemplateError`` for a template that is not UTF-8.
    """
    sources = _named_sources(read_settings(folder / "tokenizer_config.json").get("chat_template"))
    path = folder / "chat_template.jinja"
    if path.is_file():
        if path.stat().st_size > _MOST_BYTES:
            raise TemplateError(f"{path}: {path.stat().st_size:,} bytes are no chat template", hint="remove the file")
        try:
            sources["default"] = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise TemplateError(f"{path}: not UTF-8", hint="download the folder again") from error
    if not sources.get("default", "").strip():
        return default_template(tokenizer)
    return ChatTemplate(sources["default"], variables=_variables(tokenizer), tool_source=sources.get("tool_use", ""))


def _named_sources(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {"default": value}
    entries = value if isinstance(value, list) else []
    return {
        entry["name"]: entry["template"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
    }


def default_template(tokenizer: Tokenizer) -> ChatTemplate:
    """Our template for a base without one; see ``template_default``."""
    source = default_source(adds_bos=tokenizer.adds_bos)
    return ChatTemplate(source, kind="default", variables=_variables(tokenizer))


def _variables(tokenizer: Tokenizer) -> dict[str, str]:
    tokens = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id)
    return {
        f"{name}_token": tokenizer.text_of(token)
        for name, token in zip(_VARIABLES, tokens, strict=True)
        if token is not None
    }
