"""On the real models, our logits are those of transformers, which reads the same GGUF file by itself."""

from __future__ import annotations

import pytest
import torch

import models
import reference
from nomoat.model.cache import Layout
from nomoat.model.load import load_base

transformers = pytest.importorskip("transformers")

TEXT = (
    "In one evening, on one laptop: def add(a, b):\n    return a + b\n\n"
    "Ein Satz auf Deutsch, 一句中文, and some numbers 3.14159, 1,024 and 2026. "
)


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3", "qwen05"])
def test_logits_on_real_text_equal_the_reference_within_1e_4(name: str) -> None:
    base = load_base(models.path(name), name=name)
    ids = base.tokenizer.encode(TEXT * 12)
    if base.tokenizer.bos_id is not None:
        ids = [base.tokenizer.bos_id, *ids]
    tokens = torch.tensor(ids)
    model = transformers.AutoModelForCausalLM.from_pretrained(reference.hf_folder(name), dtype=torch.float32)
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        expected = torch.log_softmax(model(tokens[None]).logits[0], -1)
        hidden = base.decoder(tokens, Layout([len(tokens)]))
        got = torch.log_softmax(base.decoder.logits(hidden), -1)
    worst = (got - expected).abs().max().item()
    assert worst < 1e-4, f"{name}: log-probabilities differ by {worst:.2e} over {len(ids)} tokens"
