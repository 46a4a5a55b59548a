"""A judge asked through our own server gives the verdicts it gives in this process."""

from __future__ import annotations

from typing import Any

import pytest

from nomoat.engine.alike import next_logprobs
from nomoat.engine.names import open_stack
from nomoat.judge.measure import Subject
from nomoat.judge.pairwise import Pair, letter_tokens, question
from nomoat.judge.remote import remote_judge
from nomoat.model.template import prompt_ids
from outcome import outcome

STACKS = ("tiny+odd:-2", "tiny+odd:1", "tiny+odd:3", "tiny+even:-1", "tiny+even:2", "tiny+odd:1+even:1")


def test_an_endpoint_judges_as_the_same_model_does_here(live: Any) -> None:
    """Of a letter that is not among the twenty likeliest tokens only so much is known: it is rarer than they are."""
    pairs = [Pair(({"role": "user", "content": "?"},), first, second) for first, second in zip("AB?", "ba!")]
    known = 0
    for stack in STACKS:
        base, worn = open_stack(live.store, stack)
        letters = letter_tokens(Subject(base, worn, "judge", live.store))
        prompts = [prompt_ids(base.tokenizer, base.template, question(pair)) for pair in pairs]
        expected = []
        found = dict(next_logprobs(base, prompts, range(base.decoder.config.vocab_size), worn))
        for row in (found[number] for number in range(len(prompts))):
            twentieth = sorted(row)[-20]
            a, b = (max(row[token], twentieth) for token in letters)
            expected.append(a - b)
        known += sum(odds != 0 for odds in expected)
        _, found = outcome(remote_judge(f"{live.url}/v1#{stack}")(pairs))
        assert found == pytest.approx(expected, abs=2e-3)
    assert known > 0  # some stack does say A or B
