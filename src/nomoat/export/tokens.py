"""Do training and serving give the model the same tokens, and does serving stop where training taught it to?

Three ways from a conversation to ids are compared: the training renderer; the template and vocabulary stored in the
exported file, as llama.cpp uses them; and the Go template, as Ollama uses it. A runtime's tokenizer puts BOS in front
where the file asks for it; llama.cpp takes the template's own BOS away before that (``common/chat.cpp``), Ollama does
not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.core.errors import ParityMismatch
from nomoat.export.ollama_template import OllamaTemplate
from nomoat.judge.task import prompt_of
from nomoat.model.load import Base
from nomoat.model.template import ChatTemplate, encode_chat, prompt_ids
from nomoat.model.tokenizer import Tokenizer

Message = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """How an exported file meets a conversation: its vocabulary, its template, and Ollama's where there is one."""

    tokenizer: Tokenizer
    template: ChatTemplate
    ollama: OllamaTemplate | None = None
    stops: tuple[str, ...] = ()

    def file_ids(self, messages: Sequence[Message]) -> list[int]:
        """As llama.cpp: the file's template, its BOS taken away where the tokenizer adds one."""
        text = self.template.render(messages, add_generation_prompt=True)
        return self._begun(text.removeprefix(self.added_bos))

    def ollama_ids(self, messages: Sequence[Message]) -> list[int]:
        """As Ollama: the Go template, then the tokenizer as it is."""
        assert self.ollama is not None
        return self._begun(self.ollama.render(messages))

    @property
    def added_bos(self) -> str:
        """What the tokenizer puts in front by itself; empty for nothing."""
        return self.tokenizer.text_of(self.tokenizer.bos_id) if self.tokenizer.adds_bos else ""

    def _begun(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text)
        bos = self.tokenizer.bos_id
        return [bos, *ids] if self.tokenizer.adds_bos and bos is not None else ids


def runtime_of(base: Base) -> Runtime:
    """The runtime that a file gives by itself."""
    return Runtime(base.tokenizer, base.template)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenReceipt:
    """What was compared and found equal.

    ``across``: conversations in which training has one token for the end of the prompt and the beginning of the answer.
    There no serving can give what training gave, ours neither; the ways are then compared with what ours gives.
    """

    conversations: int
    tokens: int
    ways: tuple[str, ...]
    across: int = 0


def check_tokens(base: Base, runtime: Runtime, conversations: Sequence[Sequence[Message]]) -> TokenReceipt:
    """Compare all ways over ``conversations``, each of which ends with the assistant.

    Raises ``ParityMismatch`` that names the first token that differs, or the stop token that serving would miss.
    """
    tokens = across = 0
    for number, messages in enumerate(conversations, start=1):
        trained = encode_chat(base.tokenizer, base.template, messages)
        prompt = prompt_ids(base.tokenizer, base.template, messages[:-1])
        across += prompt != prompt_of(trained)
        _check_equal(base, runtime, prompt, runtime.file_ids(messages[:-1]), f"conversation {number}", "the file")
        if runtime.ollama is not None:
            ids = runtime.ollama_ids(messages[:-1])
            _check_equal(base, runtime, prompt, ids, f"conversation {number}", "the Ollama template")
        last = max(i for i, learned in enumerate(trained.loss_mask) if learned)
        _check_stop(base, runtime, trained.ids[last], f"conversation {number}")
        tokens += len(prompt)
    ways = ("training", "file", *(("ollama",) if runtime.ollama is not None else ()))
    return TokenReceipt(len(conversations), tokens, ways, across)


def _check_equal(
    base: Base, runtime: Runtime, trained: Sequence[int], served: Sequence[int], place: str, way: str
) -> None:
    if list(trained) == list(served):
        return
    at = next((i for i, (a, b) in enumerate(zip(trained, served)) if a != b), min(len(trained), len(served)))
    expected, got = _named(base.tokenizer, trained, at), _named(runtime.tokenizer, served, at)
    bos = base.tokenizer.bos_id
    twice = at == 1 and list(served[:2]) == [bos, bos]
    raise ParityMismatch(
        f"{place}: token {at} is {expected} in training and {got} through {way}" + (" (BOS twice)" if twice else ""),
        hint="the template or the tokenizer of the exported file is not the one that was trained with",
    )


def _named(words: Tokenizer, ids: Sequence[int], at: int) -> str:
    if at >= len(ids):
        return "none"
    return f"{ids[at]} {words.token_text(ids[at]).decode('utf-8', 'replace')!r}"


def _check_stop(base: Base, runtime: Runtime, end: int, place: str) -> None:
    """The token that ends an answer in training must end one in serving."""
    if end not in base.tokenizer.eos_ids:
        return  # cut, or a template without ends of turns: nothing was taught that could be missed
    word = _named(base.tokenizer, [end], 0)
    if end not in runtime.tokenizer.eos_ids:
        raise ParityMismatch(
            f"{place}: the answer ends with token {word}, at which the exported file does not stop",
            hint="its tokenizer.ggml.eos_token_id or eot_token_id is wrong",
        )
    if runtime.ollama is not None and base.tokenizer.text_of(end) not in runtime.stops:
        raise ParityMismatch(f"{place}: the answer ends with token {word}, which is no stop of the Modelfile")
