from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_templates import CHATML, CONVERSATIONS, FAMILIES, untagged
from nomoat.core.errors import DataError, FormatError, TemplateError
from nomoat.model.template import ChatTemplate, default_template, encode_chat, prompt_ids, template_from_folder
from nomoat.model.tokenizer import Tokenizer, from_folder
from tiny import tiny_folder

ONE_TURN = CONVERSATIONS["one turn"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def words(folder: Path) -> Tokenizer:
    return from_folder(folder)


def learned(tokenizer: Tokenizer, template: ChatTemplate, messages: list[dict[str, Any]]) -> list[str]:
    """The learned stretches as text."""
    encoded = encode_chat(tokenizer, template, messages)
    runs: list[list[int]] = [[]]
    for token, bit in zip(encoded.ids, encoded.loss_mask, strict=True):
        if bit:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run, skip_specials=False) for run in runs if run]


def test_the_mask_is_each_answer_with_its_end_and_nothing_else(words: Tokenizer) -> None:
    template = ChatTemplate(untagged(CHATML))
    assert learned(words, template, CONVERSATIONS["three turns"]) == [
        "Hello!<|im_end|>",
        "Hello!<|im_end|>",
        "Now\n\nthis:\n- a\n- b<|im_end|>",
    ]


def test_the_end_is_learned_although_it_is_also_the_padding(words: Tokenizer) -> None:
    assert words.pad_id == words.eos_id
    assert encode_chat(words, ChatTemplate(untagged(CHATML)), ONE_TURN).loss_mask[-2:] == [True, False]


def test_a_prompt_is_how_the_conversation_begins(words: Tokenizer) -> None:
    template = ChatTemplate(untagged(CHATML))
    prompt = prompt_ids(words, template, ONE_TURN[:1])
    encoded = encode_chat(words, template, ONE_TURN)
    assert encoded.ids[: len(prompt)] == prompt
    assert encoded.loss_mask.index(True) == len(prompt)


@pytest.mark.parametrize("family", ["gemma", "llama 2"])
def test_a_refused_conversation_names_what_the_template_says(family: str, words: Tokenizer) -> None:
    template = ChatTemplate(untagged(FAMILIES[family]), variables={"bos_token": "", "eos_token": "<|im_end|>"})
    with pytest.raises(TemplateError, match="roles must alternate"):
        encode_chat(words, template, CONVERSATIONS["two users in a row"])
    if family == "gemma":
        with pytest.raises(TemplateError, match="System role not supported"):
            template.render(CONVERSATIONS["system"])


def test_a_template_without_an_end_of_turn_is_refused(words: Tokenizer) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    with pytest.raises(TemplateError, match="without an end-of-turn token") as caught:
        encode_chat(words, template, ONE_TURN)
    assert "stop" in caught.value.hint


def test_a_template_that_hides_the_turns_is_refused(words: Tokenizer) -> None:
    shouting = ChatTemplate(
        "{% for m in messages %}{% if m.content|length > 23 %}{{ m.content[:5] }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>{% endfor %}"
    )
    with pytest.raises(TemplateError, match="hides where its turns begin"):
        encode_chat(words, shouting, ONE_TURN)


def test_a_template_that_leaves_a_turn_out_is_refused(words: Tokenizer) -> None:
    template = ChatTemplate("{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}")
    with pytest.raises(TemplateError, match="leaves out"):
        encode_chat(words, template, ONE_TURN)


def test_a_template_that_turns_the_order_around_is_refused(words: Tokenizer) -> None:
    template = ChatTemplate("{% for m in messages[::-1] %}{{ m.content }}<|im_end|>{% endfor %}")
    with pytest.raises(TemplateError, match=r"behind a later one|without an end-of-turn"):
        encode_chat(words, template, CONVERSATIONS["three turns"])


def test_private_use_letters_in_a_text_do_not_confuse_the_mask(words: Tokenizer) -> None:
    text = "".join(map(chr, range(0xF0000, 0xF0040)))
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}]
    assert learned(words, ChatTemplate(untagged(CHATML)), messages) == [text[::-1] + "<|im_end|>"]


def test_parts_are_joined_for_a_template_that_takes_strings_and_kept_for_one_that_takes_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    takes_strings = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert takes_strings.render([{"role": "user", "content": parts}]) == "ab"
    takes_parts = ChatTemplate("{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}")
    assert takes_parts.render([{"role": "user", "content": parts}]) == "[a][b]"
    with pytest.raises(TemplateError, match="not text"):
        takes_strings.render([{"role": "user", "content": [{"type": "image"}]}])


@pytest.mark.parametrize("messages", [["hi"], [{"content": "x"}], [{"role": 7}], [{"role": "user", "content": {1, 2}}]])
def test_what_is_no_conversation_is_refused(messages: list[Any]) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(untagged(CHATML)).render(messages)


def test_half_a_surrogate_is_a_data_error(words: Tokenizer) -> None:
    with pytest.raises(DataError, match="surrogate"):
        encode_chat(words, ChatTemplate(untagged(CHATML)), [{"role": "user", "content": "\ud800"}])


def test_the_default_template_ends_turns_with_the_tokenizers_own_eos(words: Tokenizer) -> None:
    template = default_template(words)
    assert template.kind == "default"
    assert template.render(ONE_TURN) == (
        "### User:\nHow old is the moon?\n\n### Assistant:\nSome 4.5 billion years.<|im_end|>\n\n"
    )
    for name in ("three turns", "system", "white space", "control tokens in the text"):
        answers = [m["content"] for m in CONVERSATIONS[name] if m["role"] == "assistant"]
        assert learned(words, template, CONVERSATIONS[name]) == [answer + "<|im_end|>" for answer in answers]
    with pytest.raises(TemplateError, match="tools"):
        template.render(ONE_TURN, tools=[{"type": "function"}])


def test_the_same_source_as_a_base_template_gives_the_same_ids(words: Tokenizer) -> None:
    template = default_template(words)
    again = ChatTemplate(template.source, variables=template.variables)
    assert encode_chat(words, again, ONE_TURN) == encode_chat(words, template, ONE_TURN)


def test_a_folder_gives_its_jinja_file_first_then_its_settings_then_the_default(folder: Path, words: Tokenizer) -> None:
    settings_path = folder / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text())
    assert template_from_folder(folder, words).source == settings["chat_template"]
    (folder / "chat_template.jinja").write_text("{{ 'from the file' }}")
    assert template_from_folder(folder, words).render([]) == "from the file"
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
    settings_path.write_text(json.dumps(settings | {"chat_template": named}))
    assert template_from_folder(folder, words).render([]) == "plain"
    assert template_from_folder(folder, words).render([], tools=[{"a": 1}]) == "with tools"
    settings_path.write_text(json.dumps(settings | {"chat_template": None}))
    assert template_from_folder(folder, words).kind == "default"
    settings_path.write_text("[1")
    with pytest.raises(FormatError):
        template_from_folder(folder, words)
    settings_path.write_text(json.dumps(settings))
