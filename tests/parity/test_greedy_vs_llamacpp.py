"""Greedy text against llama.cpp on the real models: equal, or different where quantization noise explains it.

llama.cpp rounds activations to 8 bits in blocks before each product with quantized weights; we keep float32. Its
logits therefore carry noise that ours do not, and a near tie may fall the other way. Two things are demanded: up to
the first difference all tokens are equal, and there our own model holds the two candidates closer than ``NOISE``.
The noise itself is measured on the tokens before that: how far the gap between llama.cpp's two likeliest tokens is
from the same gap in our logits.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from nomoat.model.template import prompt_ids

import models
from nomoat.engine.generate import Engine, Request, text_ids
from nomoat.engine.sampling import Sampling
from nomoat.model.cache import Layout
from nomoat.model.load import Base, load_base

pytestmark = [pytest.mark.real, pytest.mark.slow]

N_TOKENS = 64
PROMPTS = [
    "What is the capital of France, and why is it famous?",
    "Write a Python function that reverses a string.",
    "Explain photosynthesis to a child.",
    "List three uses of a paper clip.",
    "Translate to German: The weather is nice today.",
    "Who wrote Romeo and Juliet?",
    "SELECT name FROM users WHERE",
    "Once upon a time, in a village by the sea,",
    "2 + 2 = 4, 3 + 3 = 6, 4 + 4 =",
    "def fibonacci(n):\n    ",
    "The three laws of thermodynamics are",
    "请用一句话介绍北京。",
    "¿Cuál es la capital de España?",
    "Schreibe einen Satz über den Regen.",
    "Write a haiku about autumn leaves 🍂",
    "<html>\n<head>\n<title>My page</title>",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "The quick brown fox jumps over the lazy dog. The quick brown fox",
    "Summarise: The meeting was moved to Friday because the room was taken.",
]


@dataclasses.dataclass(frozen=True)
class Theirs:
    """llama.cpp's greedy tokens, and at each place its two likeliest tokens with their log-probabilities."""

    tokens: list[int]
    likeliest: list[list[tuple[int, float]]]


def llama_cpp(path: str, prompts: list[list[int]]) -> list[Theirs]:
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(params)
    return [_ask(server, prompt) for prompt in prompts]


def _ask(server: Any, prompt: list[int]) -> Theirs:
    replies: list[dict[str, Any]] = []
    question = {"prompt": prompt, "n_predict": N_TOKENS, "temperature": 0, "n_probs": 2, "cache_prompt": False}
    server.handle_completions(question, replies.append)
    (reply,) = replies
    assert reply["usage"]["prompt_tokens"] == len(prompt), "llama.cpp changed the prompt"
    content = reply["choices"][0]["logprobs"]["content"]
    likeliest = [[(top["id"], top["logprob"]) for top in token["top_logprobs"]] for token in content]
    return Theirs([token["id"] for token in content], likeliest)


@torch.inference_mode()
def our_logits(base: Base, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Our logits (len(answer), V) for every token of the answer, given what stands before it."""
    tokens = [*prompt, *answer[:-1]]
    hidden = base.decoder(torch.tensor(tokens), Layout([len(tokens)]))
    return base.decoder.logits(hidden[len(prompt) - 1 :])


def first_difference(a: list[int], b: list[int]) -> int | None:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)


@pytest.mark.parametrize(
    ("name", "noise"),
    [("smollm2", 0.5), ("gemma3", 0.5), ("qwen05", 0.5)],
)
def test_greedy_text_equals_llama_cpp_up_to_quantization_noise(name: str, noise: float) -> None:
    base = load_base(models.path(name))
    if base.template.kind == "base":
        prompts = [prompt_ids(base.tokenizer, base.template, [{"role": "user", "content": text}]) for text in PROMPTS]
    else:
        prompts = [text_ids(base, text) for text in PROMPTS]
    requests = [Request(prompt, Sampling(max_tokens=N_TOKENS)) for prompt in prompts]
    ours = Engine(base, max_batch=len(PROMPTS)).complete(requests)
    theirs = llama_cpp(str(base.path), prompts)

    equal, errors = 0, []
    for prompt, mine, other in zip(prompts, ours, theirs):
        place = first_difference(mine.tokens, other.tokens)
        assert place is not None or len(mine.tokens) == len(other.tokens)
        shared = len(other.tokens) if place is None else place
        logits = our_logits(base, prompt, other.tokens)
        errors += [_gap_error(logits[i], other.likeliest[i]) for i in range(shared)]
        equal += place is None
        if place is not None:
            gap = float(logits[place, mine.tokens[place]] - logits[place, other.tokens[place]])
            assert 0 <= gap < noise, f"{prompt}: token {place} differs with a gap of {gap:.3f}"
    rms = math.sqrt(sum(error * error for error in errors) / len(errors))
    print(f"{name}: {equal} of {len(PROMPTS)} equal; noise of a gap: {rms:.3f} rms, {max(errors):.3f} at most")
    assert rms < noise / 3, "the noise is larger than the bound presumes"


def _gap_error(logits: torch.Tensor, likeliest: list[tuple[int, float]]) -> float:
    """How far llama.cpp's gap between its two likeliest tokens is from ours."""
    (first, first_logprob), (second, second_logprob) = likeliest
    return abs((first_logprob - second_logprob) - float(logits[first] - logits[second]))
