"""Every family from GGUF: the same tiny model as a folder and as a GGUF file gives the same logits, and llama.cpp,
which knows nothing of our reading, gives the same log-probabilities for the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nomoat.model.cache import Layout
from nomoat.model.load import load_base
from tiny_families import CASES, reference, write_gguf


@pytest.mark.parametrize("family", CASES)
def test_the_gguf_file_of_a_family_gives_the_logits_of_the_model_it_was_made_from(family: str, tmp_path: Path) -> None:
    model, extra = reference(family)
    path = tmp_path / f"{family}.gguf"
    write_gguf(path, family, model, extra)
    base = load_base(path, name=family)
    tokens = torch.randint(3, 259, (80,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(tokens[None]).logits[0]
        got = base.decoder.logits(base.decoder(tokens, Layout([80])))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", CASES)
def test_llama_cpp_reads_the_same_file_as_the_same_model(family: str, tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    model, extra = reference(family)
    path = tmp_path / f"{family}.gguf"
    write_gguf(path, family, model, extra)
    base = load_base(path, name=family)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 128, 1, False, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    tokens, likeliest = first_answer(server)
    with torch.no_grad():
        hidden = base.decoder(torch.tensor(tokens), Layout([len(tokens)]))
        ours = torch.log_softmax(base.decoder.logits(hidden[-1:]), -1)[0]
    for top in likeliest:
        assert abs(top["logprob"] - float(ours[top["id"]])) < 0.02, (family, top)


def first_answer(server: Any) -> tuple[list[int], list[dict[str, Any]]]:
    """A random prompt and llama.cpp's likeliest next tokens; it tells none where the first is the end of text."""
    for seed in range(20):
        tokens = torch.randint(3, 259, (60,), generator=torch.Generator().manual_seed(seed)).tolist()
        replies: list[dict[str, Any]] = []
        question = {"prompt": tokens, "n_predict": 1, "temperature": 0, "n_probs": 20, "cache_prompt": False}
        server.handle_completions(question, replies.append)
        if (told := replies[0]["choices"][0]["logprobs"]) is not None:
            return tokens, told["content"][0]["top_logprobs"]
    raise AssertionError("llama.cpp ends every text at once")
