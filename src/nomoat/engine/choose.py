"""Draw one token from logits.

The order is llama.cpp's, since most bases come from its world: penalties, top-k, top-p, min-p, temperature,
draw. (transformers and vLLM put the temperature before the filters.) With the temperature last, a hot request
still draws only from the tokens that the model itself finds likely.

Penalties follow vLLM and OpenAI's API: the repetition penalty (Keskar et al. 2019, arXiv:1909.05858, section
4.1) looks at prompt and answer, presence and frequency penalties at the answer only. Top-p is Holtzman et al.
2019 (arXiv:1904.09751), min-p is Nguyen et al. 2024 (arXiv:2407.01082).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.core.errors import NumericError
from nomoat.engine.sampling import Sampling

# Sorting the whole vocabulary can take longer than a small model's step; the nucleus mostly fits in here.
_HEAD = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """The tokens that penalties look at."""

    prompt: Sequence[int]
    output: Sequence[int]


def new_generator(seed: int | None) -> torch.Generator:
    """A request's own source of chance, so that its neighbours in the batch cannot move it."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def check_logprobs(logprobs: Tensor) -> None:
    """Raises ``NumericError`` where the logits of ``logprobs`` (V,) are not numbers: one spoils them all."""
    if math.isnan(float(logprobs[0])):
        raise NumericError("the model's logits are not numbers", hint="try again without the adapters")


def pick(logits: Tensor, history: History, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw a token from ``logits`` (V,), some of which may be minus infinity.

    One number is taken from ``generator`` per draw and none when the request is greedy.
    """
    adjusted = penalise(logits, history, sampling) if sampling.penalises else logits
    if sampling.greedy:
        return int(adjusted.cpu().numpy().argmax())  # several times as fast as torch's
    values, ids = candidates(adjusted, sampling)
    return int(ids[_draw(values, sampling.temperature, generator)])


def penalise(logits: Tensor, history: History, sampling: Sampling) -> Tensor:
    """Logits (V,) after the three penalties, as a new tensor."""
    adjusted = logits.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*history.prompt, *history.output}), dtype=torch.long)
        values, penalty = adjusted[seen], sampling.repetition_penalty
        adjusted[seen] = torch.where(values > 0, values / penalty, values * penalty)
    counts = Counter(history.output)
    if counts:
        ids = torch.tensor(list(counts), dtype=torch.long)
        times = torch.tensor(list(counts.values()), dtype=torch.float32)
        adjusted[ids] -= sampling.frequency_penalty * times + sampling.presence_penalty
    return adjusted


def candidates(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What top-k, top-p and min-p leave of ``logits`` (V,): their values (N,) and token ids (N,), N >= 1."""
    values, ids = logits, torch.arange(logits.shape[0])
    if 0 < sampling.top_k < values.shape[0]:
        values, ids = torch.topk(values, sampling.top_k)
    if sampling.top_p < 1:
        values, order = _nucleus(values, sampling.top_p)
        ids = ids[order]
    if sampling.min_p > 0:
        kept = values >= values.max() + math.log(sampling.min_p)
        values, ids = values[kept], ids[kept]
    return values, ids


def _nucleus(values: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest likeliest values that reach ``top_p`` together, and where they stood; never none."""
    probabilities = values.double().softmax(-1)
    size = values.shape[0]
    for width in (min(_HEAD, size), size):
        head, order = torch.topk(probabilities, width)
        below = head.cumsum(0) < top_p
        if not bool(below[-1]):
            break
    order = order[: int(below.sum()) + 1]
    return values[order], order


def _draw(values: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Invert the cumulative distribution of ``values / temperature`` (N,) at one uniform number."""
    wide = values.double()
    cumulative = ((wide - wide.max()) / temperature).exp().cumsum(0)
    uniform = float(torch.rand((), dtype=torch.float64, generator=generator))
    position = int(torch.searchsorted(cumulative, uniform * float(cumulative[-1]), right=True))
    return min(position, values.shape[0] - 1)
