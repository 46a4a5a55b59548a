"""Grammars: whatever is drawn from what they allow has the form, and hostile forms cost little."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from nomoat.model.tokenizer import Tokenizer, from_folder
from nomoat.serve.errors import RequestError
from nomoat.serve.grammar import Grammar, Grammars
from tiny import tiny_folder

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "w": {"enum": ["a", "b"]}},
    "required": ["n", "w"],
    "additionalProperties": False,
}


@pytest.fixture
def words(tmp_path: Path) -> Tokenizer:
    return from_folder(tiny_folder(tmp_path / "tiny"))


@pytest.fixture
def grammars(words: Tokenizer) -> Grammars:
    return Grammars(words, words.vocab_size + 5)  # a head of more rows than words


def drawn(grammar: Grammar, words: Tokenizer, seed: int, longest: int = 400) -> str:
    chance, output = random.Random(seed), list[int]()
    while len(output) < longest:
        allowed = grammar.allowed(output).nonzero()[:, 0].tolist()
        assert allowed and max(allowed) < words.vocab_size
        ends = [token for token in allowed if token in words.eos_ids]
        token = ends[0] if ends else chance.choice(allowed)
        if token in words.eos_ids:
            return words.decode(output)
        output.append(token)
    raise AssertionError("no end came")


def test_what_a_schema_allows_is_json_of_that_schema(grammars: Grammars, words: Tokenizer) -> None:
    grammar = grammars.json_schema(SCHEMA)
    for seed in range(10):
        value = json.loads(drawn(grammar.copy(), words, seed))
        assert set(value) == {"n", "w"} and 0 <= value["n"] <= 99 and value["w"] in ("a", "b")


def test_what_a_pattern_allows_matches_it(grammars: Grammars, words: Tokenizer) -> None:
    grammar = grammars.regex("[0-9]{3}-(ab|cd)+é!")
    for seed in range(10):
        assert re.fullmatch("[0-9]{3}-(ab|cd)+é!", drawn(grammar.copy(), words, seed))


def test_a_choice_is_one_of_the_texts(grammars: Grammars, words: Tokenizer) -> None:
    texts = ["yes", 'no "really"', "a\nb", "ünïcode"]
    grammar = grammars.choice(texts)
    assert {drawn(grammar.copy(), words, seed) for seed in range(40)} == set(texts)


def test_copies_do_not_disturb_each_other(grammars: Grammars, words: Tokenizer) -> None:
    grammar = grammars.regex("ab")
    first, second = grammar.copy(), grammar.copy()
    start = words.encode("a")
    first.allowed(start)
    assert second.allowed([]).nonzero()[:, 0].tolist() == start


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        _nested(100),
        {"minLength": 10**12, "type": "string"},
        {"allOf": [{"type": "string", "pattern": f"a{{{i}}}"} for i in range(40)]},
        {"$defs": {"a": {"allOf": [{"pattern": "x"}] * 20}}, "$ref": "#/$defs/a"},
        {"not": {"type": "string"}},
        {"$ref": "file:///etc/passwd"},
        {"enum": ["x" * 1000] * 100},
    ],
)
def test_a_schema_beyond_the_bounds_is_refused_at_once(grammars: Grammars, schema: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(RequestError):
        grammars.json_schema(schema)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("pattern", ["(", "(?<=a)b", r"(a)\1", "x" * 5000])
def test_a_pattern_beyond_the_bounds_is_refused(grammars: Grammars, pattern: str) -> None:
    with pytest.raises(RequestError):
        grammars.regex(pattern)


def test_a_pattern_that_explodes_ends_in_an_error(grammars: Grammars, words: Tokenizer) -> None:
    grammar, output = grammars.regex("(?:(?:a{1,100}){1,100}){1,100}"), list[int]()
    started = time.process_time()
    with pytest.raises(RequestError):
        for _ in range(2000):
            grammar.allowed(output)
            output += words.encode("a")
    assert time.process_time() - started < 10
