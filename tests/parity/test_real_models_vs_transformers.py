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


# Gemma's wide residual stream, up to 1e5, makes float32 itself coarse: over half of this text transformers' are 8.4e-5
# from those of float64 throughout, ours 7.7e-5; over all of it the two, which add in other orders, are 1.75e-4 apart.
BOUNDS = {"smollm2": 1e-4, "gemma3": 2e-4, "qwen05": 1e-4}


@pytest.mark.real
@pytest.mark.parametrize("name", BOUNDS)
def test_log_probabilities_on_real_text_equal_the_reference(name: str) -> None:
    base = load_base(models.path(name), name=name)
    ids = base.tokenizer.encode(TEXT * 12)
    if base.tokenizer.bos_id is not None:
        ids = [base.tokenizer.bos_id, *ids]
    tokens = torch.tensor(ids)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        reference.hf_folder(name), dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        theirs = torch.log_softmax(model(tokens[None]).logits[0], -1)
        ours = torch.log_softmax(base.decoder.logits(base.decoder(tokens, Layout([len(tokens)]))), -1)
    worst = (ours - theirs).abs().max().item()
    assert worst < BOUNDS[name], f"{name}: log-probabilities differ by {worst:.2e} over {len(ids)} tokens"
