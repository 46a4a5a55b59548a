"""Logits equal transformers' on tiny random models of every family, in float32, packed and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nomoat.model.cache import KVCache, Layout
from nomoat.model.load import load_base
from tiny import byte_tokenizer

transformers = pytest.importorskip("transformers")

COMMON = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama-tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama3-rope": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE}),
    "llama-bias": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralConfig", {"sliding_window": 7}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2-window": (
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
    ),
    "qwen3": ("Qwen3Config", {}),
    "gemma2": ("Gemma2Config", {"sliding_window": 7, "query_pre_attn_scalar": 12}),
    "gemma3": (
        "Gemma3TextConfig",
        {"sliding_window": 7, "query_pre_attn_scalar": 12, "num_hidden_layers": 7},
    ),
    "phi3": ("Phi3Config", {"sliding_window": 7}),
    "phi3-longrope": (
        "Phi3Config",
        {
            "rope_parameters": LONG_ROPE | {"original_max_position_embeddings": 128},
            "original_max_position_embeddings": 128,
        },
    ),
    "olmo2": ("Olmo2Config", {}),
    "granite": (
        "GraniteConfig",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.6,
            "logits_scaling": 2.0,
        },
    ),
    "smollm3": ("SmolLM3Config", {}),
}


def reference(case: str, folder: Path) -> Any:
    class_name, changes = CASES[case]
    torch.manual_seed(7)
    config = getattr(transformers, class_name)(**(COMMON | changes))
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return model


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_reference_on_packed_documents(case: str, tmp_path: Path) -> None:
    model = reference(case, tmp_path)
    decoder = load_base(tmp_path, name=case).decoder
    generator = torch.Generator().manual_seed(1)
    documents = [torch.randint(3, 259, (n,), generator=generator) for n in (23, 1, 40, 9)]
    with torch.no_grad():
        expected = torch.cat([model(document[None]).logits[0] for document in documents])
        hidden = decoder(torch.cat(documents), Layout([len(document) for document in documents]))
        got = decoder.logits(hidden)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_cached_decoding_gives_the_logits_of_the_full_forward(case: str, tmp_path: Path) -> None:
    reference(case, tmp_path)
    decoder = load_base(tmp_path, name=case).decoder
    tokens = torch.randint(3, 259, (30,), generator=torch.Generator().manual_seed(2))
    cache = KVCache(decoder.config, 8)
    cache.place(1, [5, 2, 7])
    with torch.no_grad():
        expected = decoder(tokens, Layout([30]))
        parts = [decoder(tokens[:11], Layout([11], slots=[1]), cache=cache)]
        parts.append(decoder(tokens[11:20], Layout([9], starts=[11], slots=[1]), cache=cache))
        for at in range(20, 30):
            parts.append(decoder(tokens[at : at + 1], Layout([1], starts=[at], slots=[1]), cache=cache))
    torch.testing.assert_close(torch.cat(parts), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["llama", "gemma2", "gemma3", "granite", "phi3"])
def test_losses_and_their_gradient_to_an_adapter_equal_plain_autograd(case: str, tmp_path: Path) -> None:
    reference(case, tmp_path)
    base = load_base(tmp_path, name=case)
    from nomoat.model.adapters import AdapterConfig

    adapter = base.new_adapter(AdapterConfig(rank=3, alpha=6), seed=1, name="a")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    tokens = torch.randint(3, 259, (50,), generator=generator)
    mask = torch.rand(50, generator=generator) < 0.5
    layout, stack = Layout([20, 30]), ((adapter, 1.0),)

    losses = base.decoder.next_token_losses(tokens, layout, mask, stack)
    losses.nll.mean().backward()
    got = {name: parameter.grad.clone() for name, parameter in adapter.parameters().items()}

    for parameter in adapter.parameters().values():
        parameter.grad = None
    hidden = base.decoder(tokens, layout, stack)
    head = base.decoder.lm_head.weight.expand().clone()
    logits = hidden @ head.T * base.decoder.config.logit_scale
    if (cap := base.decoder.config.logit_softcap) is not None:
        logits = torch.tanh(logits / cap) * cap
    learned = mask.clone()
    learned[[0, 20]] = False
    places = learned.nonzero()[:, 0]
    plain = torch.nn.functional.cross_entropy(logits[places - 1], tokens[places], reduction="none")
    plain.mean().backward()
    torch.testing.assert_close(losses.nll, plain, atol=1e-5, rtol=1e-5)
    for name, parameter in adapter.parameters().items():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-5, rtol=1e-4)
