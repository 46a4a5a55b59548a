"""What is served is what was measured: decoding, prefill and scoring of real quantized models agree."""

from __future__ import annotations

import pytest
import torch

import models
from nomoat.engine.generate import Engine, Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import score
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base
from nomoat.model.template import Encoded

pytestmark = pytest.mark.real

TEXT = "The capital of France is Paris, and the capital of Germany is Berlin. What does a mayor do all day? " * 2


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_decoding_gives_tokens_the_log_likelihoods_that_scoring_gives_them_to_1e_3(name: str) -> None:
    base = load_base(models.path(name))
    adapter = base.new_adapter(AdapterConfig(rank=8, alpha=8.0), seed=0, name="a")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            torch.nn.init.normal_(delta.lora_B, std=0.01)
    stack = ((adapter, 1.0),)
    prompt = base.tokenizer.encode(TEXT)
    completion = Engine(base).complete([Request(prompt, Sampling(max_tokens=12), stack)])[0]
    ids = [*prompt, *completion.tokens]
    learned = [False] * len(prompt) + [True] * len(completion.tokens)
    scored = score(base, [Encoded(ids=ids, loss_mask=learned)], stack)[0]
    assert scored.greedy == [True] * len(completion.tokens)
    assert completion.logprobs == pytest.approx(scored.logprobs, abs=1e-3)
    nobody = [False] * (len(prompt) - 8) + [True] * 8
    exact = score(base, [Encoded(ids=prompt, loss_mask=nobody)], stack)[0].logprobs
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOMOAT_KERNELS", "reference")
        assert score(base, [Encoded(ids=prompt, loss_mask=nobody)], stack)[0].logprobs == pytest.approx(exact, abs=1e-3)
