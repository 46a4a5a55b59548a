"""The law of the loss mask: exactly what the assistant says and the token that ends its turn, for any conversation."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_gguf
from chat_templates import FAMILIES, SPECIALS, untagged
from nomoat.model import tokenizer
from nomoat.model.template import ChatTemplate, encode_chat
from nomoat.model.tokenizer import Tokenizer
from text_lines import lines

# Families that print what is said as it is, so that the answer can be written down without the template.
FAITHFUL = {"chatml": "<|im_end|>", "llama 3": "<|eot_id|>", "phi 3": "<|end|>", "vicuna": "<|im_end|>"}
TRIMMING = ("llama 3",)

texts = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from([*SPECIALS, " ", "\n", "\n\n", "###", "assistant\n", "e\u0301"])),
    max_size=5,
).map("".join)


@functools.cache
def words() -> Tokenizer:
    keys = tiny_gguf.byte_level_keys(lines(1500, seed=1), "gpt-2", size=1000)
    keys["tokenizer.ggml.tokens"] += [token for token in SPECIALS if token not in keys["tokenizer.ggml.tokens"]]
    n_new = len(keys["tokenizer.ggml.tokens"]) - len(keys["tokenizer.ggml.token_type"])
    keys["tokenizer.ggml.token_type"] += [3] * n_new
    return tokenizer.from_metadata(keys, "test", None)


@functools.cache
def template(family: str) -> ChatTemplate:
    return ChatTemplate(untagged(FAMILIES[family]), variables={"bos_token": "<bos>", "eos_token": "<|im_end|>"})


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    family=st.sampled_from(sorted(FAITHFUL)),
    system=st.none() | texts,
    turns=st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
)
def test_the_mask_covers_exactly_the_assistants_tokens(
    family: str, system: str | None, turns: list[tuple[str, str]]
) -> None:
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    encoded = encode_chat(words(), template(family), messages)
    assert encoded.ids == words().encode(template(family).render(messages))
    answers = [(answer.strip() if family in TRIMMING else answer) + FAITHFUL[family] for _, answer in turns]
    runs = runs_of(encoded.ids, encoded.loss_mask)
    assert len(runs) == len(answers)
    for run, answer in zip(runs, answers, strict=True):
        spelled = [words().token_text(token) for token in run]
        joined = b"".join(spelled)
        assert joined.endswith(answer.encode())
        # One token may join the last letters of the header with the first of the answer; no more than that one.
        assert len(joined) - len(answer.encode()) < len(spelled[0])


def runs_of(ids: list[int], mask: list[bool]) -> list[list[int]]:
    """The learned stretches; a header lies between any two turns."""
    runs: list[list[int]] = [[]]
    for token, bit in zip(ids, mask, strict=True):
        if bit:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), st.sampled_from(sorted(FAMILIES)))
def test_the_mask_found_is_the_mask_that_tags_give(turns: list[tuple[str, str]], family: str) -> None:
    messages = [
        {"role": role, "content": text + "x"}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    tagged = ChatTemplate(FAMILIES[family], variables=template(family).variables)
    assert encode_chat(words(), template(family), messages) == encode_chat(words(), tagged, messages)
