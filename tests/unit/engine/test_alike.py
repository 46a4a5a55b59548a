"""Prompts that begin alike are read once, and say next what each says alone."""

from __future__ import annotations

import itertools

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.engine import alike
from nomoat.engine.alike import next_logprobs, packs
from nomoat.model.adapters import AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from tiny import tiny_base

HEAD = [7, 8, 9, 10, 11] * 6
PROMPTS = [
    [*HEAD, 20, 21, 30, 31, 40],
    [5],
    [*HEAD, 20, 21, 31, 30, 40],
    [*HEAD, 22, 50],
    [5, 6],
    [*HEAD, 20, 21, 30, 31, 40],
    HEAD,
    [*HEAD, *HEAD, *HEAD],
    [200, 201],
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"))


@torch.inference_mode()
def alone(base: Base, prompt: list[int], stack: Stack = EMPTY) -> list[float]:
    hidden = base.decoder(torch.tensor(prompt), Layout([len(prompt)]), stack)
    found: list[float] = base.decoder.logits(hidden[-1:], stack).log_softmax(1)[0].tolist()
    return found


@pytest.mark.parametrize("pack_tokens", [1, 40, 1024])
def test_every_prompt_gets_what_it_gets_alone(base: Base, pack_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PACK_TOKENS", pack_tokens)
    worn = base.new_adapter(AdapterConfig(rank=2, alpha=8), seed=3, name="worn")
    with torch.no_grad():
        for delta in worn.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    for stack in (EMPTY, ((worn, 0.7),)):
        found = dict(next_logprobs(base, PROMPTS, range(base.decoder.config.vocab_size), stack))
        assert sorted(found) == list(range(len(PROMPTS)))
        for number, prompt in enumerate(PROMPTS):
            assert found[number] == pytest.approx(alone(base, prompt, stack), abs=1e-4)


def test_candidates_are_told_in_the_order_asked(base: Base) -> None:
    table = alone(base, [5, 6])
    assert dict(next_logprobs(base, [[5, 6]], [9, 4]))[0] == pytest.approx([table[9], table[4]], abs=1e-5)


def test_a_token_that_prompts_begin_alike_with_is_read_once() -> None:
    (pack,) = packs(PROMPTS, 1024)
    assert sum(len(one.tokens) for one in pack) == 2 + len(HEAD) + 5 + 3 + 2 + 2 * len(HEAD) + 2
    assert sorted(itertools.chain.from_iterable(one.prompts for one in pack)) == list(range(len(PROMPTS)))


@pytest.mark.parametrize("most", [1, 10, 50])
def test_packs_hold_as_much_as_is_allowed_and_lose_nothing(most: int) -> None:
    before: list[int] = []
    for pack in packs(PROMPTS, most):
        assert len(pack) == 1 or sum(len(one.tokens) for one in pack) <= most
        for reading in pack:
            before = before[: reading.start] + reading.tokens
            assert reading.tokens and all(PROMPTS[number] == before for number in reading.prompts)


def test_prompts_that_are_empty_or_too_long_are_refused_and_none_are_nothing(base: Base) -> None:
    for prompt in ([], [5] * (base.decoder.config.max_seq_len + 1)):
        with pytest.raises(UsageError, match="prompt 1"):
            list(next_logprobs(base, [[5], prompt], [1]))
    assert list(next_logprobs(base, [], [1])) == []
