"""Text, ids and masks against ``apply_chat_template`` of transformers, on the shapes of many families.

The reference mask comes from the template with ``{% generation %}`` blocks; ours has to find the same tokens in the
template without them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

import chat_templates
import models
import tiny_gguf
from chat_templates import CONVERSATIONS, FAMILIES, TOOLS, untagged
from nomoat.core.errors import TemplateError
from nomoat.formats.gguf import GgufFile
from nomoat.formats.llama2c import read_tokenizer
from nomoat.model import tokenizer
from nomoat.model.template import ChatTemplate, encode_chat, prompt_ids, template_from_gguf
from nomoat.model.tokenizer import Tokenizer
from text_lines import lines

STORIES = Path(__file__).parents[1] / "golden" / "stories260k" / "tok512.bin"


def with_specials(keys: dict[str, Any]) -> dict[str, Any]:
    new = [token for token in chat_templates.SPECIALS if token not in keys["tokenizer.ggml.tokens"]]
    grown = dict(keys)
    grown["tokenizer.ggml.tokens"] = keys["tokenizer.ggml.tokens"] + new
    grown["tokenizer.ggml.token_type"] = keys["tokenizer.ggml.token_type"] + [3] * len(new)
    if "tokenizer.ggml.scores" in keys:
        grown["tokenizer.ggml.scores"] = keys["tokenizer.ggml.scores"] + [0.0] * len(new)
    return grown


@functools.cache
def a_tokenizer(kind: str) -> Tokenizer:
    if kind == "byte-level":
        keys = tiny_gguf.byte_level_keys(lines(2000, seed=1), "qwen2", size=1500)
    else:
        keys = tiny_gguf.sentence_piece_keys(*read_tokenizer(STORIES), space_first=True)
    if kind == "phi 3":  # special tokens take the white space after them along
        keys["general.name"] = "Phi-3 mini"
    return tokenizer.from_metadata(with_specials(keys), "test", None)


@functools.cache
def reference(kind: str, folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    ours = a_tokenizer(kind)
    path = folder / f"{kind}.json"
    ours.save_json(path)
    named = {"bos_token": ours.text_of(ours.bos_id), "eos_token": ours.text_of(ours.eos_id)}
    if ours.unk_id is not None:
        named["unk_token"] = ours.text_of(ours.unk_id)
    return PreTrainedTokenizerFast(tokenizer_file=str(path), **named)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def variables(ours: Tokenizer) -> dict[str, str]:
    named = {"bos_token": ours.text_of(ours.bos_id), "eos_token": ours.text_of(ours.eos_id)}
    return named | ({"unk_token": ours.text_of(ours.unk_id)} if ours.unk_id is not None else {})


def flat(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts as one string: what we do for templates that cannot take parts, transformers leaves to the caller."""
    return [
        message | {"content": "".join(part["text"] for part in message["content"])}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["byte-level", "sentence-piece", "phi 3"])
def test_text_ids_and_mask_are_those_of_transformers(kind: str, family: str, conversation: str, folder: Path) -> None:
    ours, theirs, messages = a_tokenizer(kind), reference(kind, folder), CONVERSATIONS[conversation]
    tools = TOOLS if "tool" in conversation else None
    tagged, bare = FAMILIES[family], untagged(FAMILIES[family])
    template = ChatTemplate(bare, variables=variables(ours))
    shown = messages if family == "gemma 3" else flat(messages)
    try:
        wanted = theirs.apply_chat_template(
            shown, tools=tools, chat_template=tagged, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception:
        with pytest.raises(TemplateError):
            encode_chat(ours, template, messages, tools=tools)
        return
    for prompt in (False, True):
        text = theirs.apply_chat_template(
            shown, tools=tools, chat_template=bare, tokenize=False, add_generation_prompt=prompt
        )
        assert template.render(messages, tools=tools, add_generation_prompt=prompt) == text
    with_tags = encode_chat(ours, ChatTemplate(tagged, variables=variables(ours)), messages, tools=tools)
    assert with_tags.ids == wanted["input_ids"]
    if kind != "phi 3":  # there transformers counts a header that swallows the first space of an answer
        assert with_tags.loss_mask == [bool(bit) for bit in wanted["assistant_masks"]]
    assert encode_chat(ours, template, messages, tools=tools) == with_tags
    prompted = theirs.apply_chat_template(
        shown, tools=tools, chat_template=bare, add_generation_prompt=True, return_dict=True
    )
    assert prompt_ids(ours, template, messages, tools) == prompted["input_ids"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "qwen05"])
def test_templates_of_real_models_give_the_text_and_ids_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    file = GgufFile.open(models.path(name))
    ours = tokenizer.from_gguf(file, None)
    template = template_from_gguf(file, ours)
    ours.save_json(tmp_path / "tokenizer.json")
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        bos_token=ours.text_of(ours.bos_id),
        eos_token=ours.text_of(ours.eos_id),
        chat_template=template.source,
    )
    compared = 0
    for conversation, messages in CONVERSATIONS.items():
        tools = TOOLS if "tool" in conversation and name == "qwen05" else None
        if any(not isinstance(message.get("content"), str) for message in messages) and name == "smollm2":
            continue
        wanted = theirs.apply_chat_template(flat(messages), tools=tools, return_dict=True)["input_ids"]
        encoded = encode_chat(ours, template, messages, tools=tools)
        assert encoded.ids == wanted
        turns = sum(message["role"] == "assistant" for message in messages)
        runs = "".join("x" if bit else " " for bit in encoded.loss_mask).split()
        assert len(runs) == turns
        compared += 1
    assert compared >= 11
