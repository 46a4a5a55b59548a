"""On the real models, our logits are those of transformers, which reads the same GGUF file by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import models
import reference
from nomoat.model.cache import Layout
from nomoat.model.load import load_base

transformers = pytest.importorskip("transformers")

TEXT = (
    "In one evening, on one laptop: def add(a, b):\n    return a + b\n\n"
    "Ein Satz auf Deutsch, 一句中文, and some numbers 3.14159, 1,024 and 2026. "
)


# Gemma's residual stream reaches 1e5, where float32 itself is coarse: transformers' own two ways to attend, "eager" and
# "sdpa", are 1.4e-4 apart over this text. From float64 throughout its eager is 1.9e-4 on one processor and 0.9e-4 on
# another, ours 1.4e-4 and 3.5e-4: that is one place of some, and on average 0.7e-5 and 1.1e-5 on the latter.
BOUNDS = {"smollm2": 1e-4, "gemma3": 5e-4, "qwen05": 1e-4}
ON_AVERAGE = {"smollm2": 2e-5, "gemma3": 2e-5, "qwen05": 2e-5}


@pytest.mark.real
@pytest.mark.parametrize("name", BOUNDS)
def test_log_probabilities_on_real_text_equal_the_reference(name: str) -> None:
    off = _off(name, TEXT * 12)
    worst, average = off.max().item(), off.mean().item()
    assert worst < BOUNDS[name], f"{name}: log-probabilities differ by {worst:.2e}"
    assert average < ON_AVERAGE[name], f"{name}: log-probabilities differ by {average:.2e} on average"


@pytest.mark.real
@pytest.mark.parametrize("name", BOUNDS)
def test_the_twins_are_within_1e_4_of_transformers_as_it_runs_by_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    assert _off(name, TEXT * 12, attention="sdpa").max() < 1e-4


@pytest.mark.real
@pytest.mark.parametrize("name", BOUNDS)
def test_done_in_the_order_of_the_reference_they_are_closer_still(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left above is the order of sums: with the twins and plain attention Gemma is equal to the last bit."""
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", _plain_attention)
    worst = _off(name, TEXT * 9).max()
    assert worst < (1e-6 if name != "qwen05" else 1e-4)  # Qwen's biases are added after the product, not inside it


def _off(name: str, text: str, attention: str = "eager") -> Tensor:
    """How far each of our log-probabilities is from transformers'. (T, V)."""
    base = load_base(models.path(name), name=name)
    ids = base.tokenizer.encode(text)
    if base.tokenizer.bos_id is not None:
        ids = [base.tokenizer.bos_id, *ids]
    tokens = torch.tensor(ids)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        reference.hf_folder(name), dtype=torch.float32, attn_implementation=attention
    )
    with torch.no_grad():
        theirs = torch.log_softmax(model(tokens[None]).logits[0], -1)
        ours = torch.log_softmax(base.decoder.logits(base.decoder(tokens, Layout([len(tokens)]))), -1)
    return (ours - theirs).abs()


def _plain_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float = 1.0,
    enable_gqa: bool = False,
) -> Tensor:
    """(B, H, Lq, C), (B, K, Lk, C) x 2: scores, softmax and mix, each a call of its own."""
    assert enable_gqa
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    assert attn_mask is not None
    scores = scores + torch.zeros(attn_mask.shape).masked_fill(~attn_mask, torch.finfo(torch.float32).min)
    return torch.matmul(torch.softmax(scores, -1), v)
