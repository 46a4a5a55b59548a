"""llama.cpp through xllamacpp, asked for its likeliest next tokens and its greedy text, all in float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nomoat.engine.names import Worn
from nomoat.model.cache import Layout
from nomoat.model.load import Base

PROMPTS = [torch.randint(3, 259, (40,), generator=torch.Generator().manual_seed(seed)).tolist() for seed in range(12)]


class Served:
    """A model file, perhaps with a LoRA file, loaded by llama.cpp."""

    def __init__(self, model: Path, lora: Path | None = None) -> None:
        xllamacpp = pytest.importorskip("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 256, 1, False, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if lora is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        self._server = xllamacpp.Server(params)

    def answer(self, prompt: list[int], n: int) -> tuple[list[int], list[dict[str, Any]]]:
        """The greedy tokens, and ``top_logprobs`` of each; none of those where a token is part of a character."""
        replies: list[dict[str, Any]] = []
        question = {"prompt": prompt, "n_predict": n, "temperature": 0, "n_probs": 10, "cache_prompt": False}
        self._server.handle_completions(
            question | {"ignore_eos": True, "return_tokens": True, "verbose": True}, replies.append
        )
        told = (replies[0]["choices"][0]["logprobs"] or {"content": []})["content"]
        tokens: list[int] = replies[0]["__verbose"]["tokens"]
        return tokens, told if len(told) == len(tokens) else []


@dataclasses.dataclass(frozen=True)
class Comparison:
    """``gaps``: of log-probabilities. ``regrets``: how much likelier our best token is than llama.cpp's, by place."""

    gaps: list[float]
    regrets: list[float]


@torch.no_grad()
def compare(served: Served, base: Base, worn: Worn = (), *, n: int = 8) -> Comparison:
    """llama.cpp's greedy answers and log-probabilities of its ten likeliest first tokens, against ours."""
    gaps: list[float] = []
    regrets: list[float] = []
    for prompt in PROMPTS:
        _, told = served.answer(prompt, 1)
        answer, _ = served.answer(prompt, n)
        tokens = [*prompt, *answer]
        hidden = base.decoder(torch.tensor(tokens), Layout([len(tokens)]), worn)
        ours = torch.log_softmax(base.decoder.logits(hidden[len(prompt) - 1 : -1], worn), -1)
        may = ours.clone()
        may[:, sorted(base.tokenizer.eos_ids)] = -torch.inf  # the answers go on whatever they say
        regrets += [float(row.max() - row[token]) for row, token in zip(may, answer, strict=True)]
        gaps += [abs(top["logprob"] - float(ours[0][top["id"]])) for place in told for top in place["top_logprobs"]]
    assert len(regrets) == n * len(PROMPTS) and len(gaps) >= 30
    return Comparison(gaps, regrets)
