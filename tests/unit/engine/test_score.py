"""Scores against the plain log-softmax of a full forward."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.engine.score import choose_by_likelihood, loss, perplexity, score
from nomoat.model.adapters import AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def rows() -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in (1, 5, 40, 17, 2, 90):
        ids = torch.randint(3, 259, (length,), generator=generator).tolist()
        mask = (torch.rand(length, generator=generator) < 0.6).tolist()
        rows.append(Encoded(ids=ids, loss_mask=mask))
    return rows


@torch.inference_mode()
def plain_logprobs(base: Base, ids: list[int], stack: Stack = EMPTY) -> torch.Tensor:
    """Log-probabilities (T - 1, V) of every next token."""
    hidden = base.decoder(torch.tensor(ids), Layout([len(ids)]), stack)
    return base.decoder.logits(hidden[:-1], stack).log_softmax(-1)


@pytest.mark.parametrize("pack_tokens", [1, 64, 2048])
def test_learned_tokens_get_their_log_probability_however_rows_are_packed(
    base: Base, rows: list[Encoded], pack_tokens: int
) -> None:
    for row, scored in zip(rows, score(base, rows, pack_tokens=pack_tokens), strict=True):
        table = plain_logprobs(base, row.ids)
        places = [i for i in range(1, len(row.ids)) if row.loss_mask[i]]
        expected = [float(table[i - 1, row.ids[i]]) for i in places]
        assert scored.logprobs == pytest.approx(expected, abs=1e-5)
        assert scored.greedy == [int(table[i - 1].argmax()) == row.ids[i] for i in places]


def test_scores_are_those_of_the_stack_that_is_worn(base: Base, rows: list[Encoded]) -> None:
    adapter = base.new_adapter(AdapterConfig(rank=2, alpha=8), seed=3, name="busy")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    stack = ((adapter, 0.7),)
    row = Encoded(ids=rows[2].ids, loss_mask=[True] * len(rows[2].ids))
    expected = plain_logprobs(base, row.ids, stack).gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]
    assert score(base, [row], stack)[0].logprobs == pytest.approx(expected.tolist(), abs=1e-5)
    assert loss(base, [row], stack)[0] != pytest.approx(loss(base, [row])[0], abs=1e-3)


def test_loss_is_the_mean_over_all_learned_tokens_and_perplexity_its_exponential(
    base: Base, rows: list[Encoded]
) -> None:
    logprobs = [logprob for scored in score(base, rows) for logprob in scored.logprobs]
    mean, tokens = loss(base, rows)
    assert tokens == len(logprobs)
    assert mean == pytest.approx(-sum(logprobs) / tokens)
    assert perplexity(base, rows) == pytest.approx(math.exp(mean))


def test_rows_with_nothing_to_score_are_an_error_not_a_division_by_zero(base: Base) -> None:
    with pytest.raises(UsageError, match="not one learned token"):
        loss(base, [Encoded(ids=[5], loss_mask=[True]), Encoded(ids=[5, 6], loss_mask=[True, False])])


def test_a_row_longer_than_the_context_is_refused_by_number(base: Base, rows: list[Encoded]) -> None:
    with pytest.raises(UsageError, match=r"row 1 has 600 tokens"):
        score(base, [rows[0], Encoded(ids=[5] * 600, loss_mask=[True] * 600)])


def test_no_rows_give_no_scores(base: Base) -> None:
    assert score(base, []) == []


def test_the_likeliest_choice_is_the_one_the_model_would_say(base: Base) -> None:
    prompt = base.tokenizer.encode("Which one? ")
    likeliest = int(plain_logprobs(base, [*prompt, 5])[-1].argmax())
    others = [token for token in (10, 11, 12) if token != likeliest]
    chosen = choose_by_likelihood(base, prompt, [[others[0]], [likeliest], [others[1]]])
    assert (chosen.plain, chosen.normalised) == (1, 1)
    assert len(chosen.totals) == 3


def test_length_normalisation_can_prefer_a_longer_choice(base: Base) -> None:
    prompt = base.tokenizer.encode("Which one? ")
    table = plain_logprobs(base, [*prompt, 5])[-1]
    unlikely = int(table.argsort()[128])
    long = list(prompt)
    while len(long) < len(prompt) + 8:
        long.append(int(plain_logprobs(base, [*long, 5])[-1].argmax()))
    chosen = choose_by_likelihood(base, prompt, [[unlikely], long[len(prompt) :]])
    assert chosen.normalised == 1
    assert chosen.plain == chosen.totals.index(max(chosen.totals))


@pytest.mark.parametrize(("prompt", "choices"), [([], [[5], [6]]), ([5], [[6]]), ([5], [[6], []])])
def test_a_choice_without_a_prompt_or_alternatives_is_refused(
    base: Base, prompt: list[int], choices: list[list[int]]
) -> None:
    with pytest.raises(UsageError):
        choose_by_likelihood(base, prompt, choices)


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_an_adapter_learns_after_the_same_process_has_scored(
    tmp_path: Path, rows: list[Encoded], kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring runs in inference mode; nothing that it leaves behind may be out of bounds for training."""
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    fresh = tiny_base(tmp_path, hidden_size=64, intermediate_size=256)  # wider than any buffer kept so far
    loss(fresh, rows)
    adapter = fresh.new_adapter(AdapterConfig(rank=2), seed=0, name="new")
    ids = torch.tensor(rows[2].ids)
    losses = fresh.decoder.next_token_losses(
        ids, Layout([len(ids)]), torch.ones(len(ids), dtype=torch.bool), ((adapter, 1.0),)
    )
    losses.nll.mean().backward()
    gradients = [p.grad for name, p in adapter.parameters().items() if name.endswith("lora_B.weight")]
    assert gradients and all(grad is not None and bool(grad.abs().sum() > 0) for grad in gradients)
