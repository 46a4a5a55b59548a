"""Greedy text against llama.cpp on the real models: equal, or different where quantization noise explains it.

llama.cpp rounds activations to 8 bits in blocks before each product with quantized weights; we keep float32. Its
logits therefore carry noise that ours do not, and a near tie may fall the other way. Up to the first difference all
tokens are equal, and there our own model must hold the two candidates closer than ``NOISE``. The noise is measured
too: how far the gap between llama.cpp's two likeliest tokens is from the same gap in our logits, place by place.

That it is rounding and nothing else is shown by the same model with its weights written out in float32, where
llama.cpp rounds no activations: the noise is gone and the text is equal to the last token.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import models
from nomoat.engine.generate import Engine, Request, text_ids
from nomoat.engine.sampling import Sampling
from nomoat.model.cache import Layout
from nomoat.model.load import Base, load_base
from nomoat.model.template import prompt_ids

pytestmark = [pytest.mark.real, pytest.mark.slow]

N_TOKENS = 64
NOISE = 0.5  # nats; the gap's noise is 0.14 (root mean square) on SmolLM2 Q4_1
NOISE_IN_FLOAT32 = 0.001
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
    """llama.cpp's greedy tokens, and its two likeliest tokens with their log-probabilities at each place.

    It leaves out places where a character is not whole yet; then ``likeliest`` is empty.
    """

    tokens: list[int]
    likeliest: list[list[tuple[int, float]]]


def llama_cpp(path: Path, prompts: list[list[int]]) -> list[Theirs]:
    """Ask llama.cpp with its cache of keys and values in float32, as ours is."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    return [_ask(server, prompt) for prompt in prompts]


def _ask(server: Any, prompt: list[int]) -> Theirs:
    replies: list[dict[str, Any]] = []
    question = {"prompt": prompt, "n_predict": N_TOKENS, "temperature": 0, "n_probs": 2, "cache_prompt": False}
    server.handle_completions(question | {"return_tokens": True, "verbose": True}, replies.append)
    (reply,) = replies
    assert reply["usage"]["prompt_tokens"] == len(prompt), "llama.cpp changed the prompt"
    tokens, content = reply["__verbose"]["tokens"], reply["choices"][0]["logprobs"]["content"]
    likeliest = [[(top["id"], top["logprob"]) for top in place["top_logprobs"]] for place in content]
    return Theirs(tokens, likeliest if len(likeliest) == len(tokens) else [])


@torch.inference_mode()
def our_logits(base: Base, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Our logits (len(answer), V) for every token of the answer, given what stands before it."""
    tokens = [*prompt, *answer[:-1]]
    hidden = base.decoder(torch.tensor(tokens), Layout([len(tokens)]))
    return base.decoder.logits(hidden[len(prompt) - 1 :])


def first_difference(a: list[int], b: list[int]) -> int | None:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """``gaps``: ours between the two candidates, where an answer differs. ``errors``: llama.cpp's noise, by place."""

    gaps: list[float]
    errors: list[float]

    @property
    def noise(self) -> float:
        return math.sqrt(sum(error * error for error in self.errors) / len(self.errors))


def compare(base: Base, path: Path, texts: list[str]) -> Comparison:
    prompts = [_prompt(base, text) for text in texts]
    requests = [Request(prompt, Sampling(max_tokens=N_TOKENS)) for prompt in prompts]
    ours = Engine(base, max_batch=len(texts)).complete(requests)
    theirs = llama_cpp(path, prompts)
    gaps: list[float] = []
    for prompt, mine, other in zip(prompts, ours, theirs):
        place = first_difference(mine.tokens, other.tokens)
        if place is None:
            assert len(mine.tokens) == len(other.tokens), "one of the two ended its turn and the other went on"
            continue
        logits = our_logits(base, prompt, other.tokens[: place + 1])[-1]
        gaps.append(float(logits[mine.tokens[place]] - logits[other.tokens[place]]))
    errors = [error for prompt, other in zip(prompts[:5], theirs) for error in _noise(base, prompt, other)]
    result = Comparison(gaps, errors)
    print(f"{path.stem}: {len(texts) - len(gaps)} of {len(texts)} equal; gaps {[round(gap, 3) for gap in gaps]}")
    print(f"noise of a gap: {result.noise:.4f} rms, {max(errors):.4f} at most, over {len(errors)} places")
    return result


@pytest.mark.parametrize("name", ["smollm2", "gemma3", "qwen05"])
def test_greedy_text_equals_llama_cpp_up_to_quantization_noise(name: str) -> None:
    base = load_base(models.path(name))
    result = compare(base, base.path, PROMPTS)
    assert all(0 <= gap < NOISE for gap in result.gaps)
    assert result.noise < NOISE / 3


def test_greedy_text_equals_llama_cpp_to_the_token_where_it_computes_in_float32(tmp_path: Path) -> None:
    base = load_base(models.path("smollm2"))
    written_out = tmp_path / "float32.gguf"
    write_float32(base.path, written_out)
    result = compare(base, written_out, PROMPTS[:3])
    assert result.gaps == []
    assert max(result.errors) < NOISE_IN_FLOAT32


def write_float32(source: Path, target: Path) -> None:
    """Write a GGUF file again with all its tensors in float32; the metadata stay as they are."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(source)
    first_info = min(tensor.field.offset for tensor in reader.tensors)
    infos, offset, align = b"", 0, int(reader.alignment)
    for tensor in reader.tensors:
        name, shape = tensor.name.encode(), [int(size) for size in tensor.shape]
        infos += struct.pack(f"<Q{len(name)}sI", len(name), name, len(shape))
        infos += struct.pack(f"<{len(shape)}QIQ", *shape, gguf.GGMLQuantizationType.F32, offset)
        offset += -(-4 * int(tensor.n_elements) // align) * align
    with source.open("rb") as original, target.open("wb") as out:
        out.write(original.read(first_info) + infos)
        for tensor in reader.tensors:
            out.write(b"\0" * (-out.tell() % align))
            out.write(gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("<f4").tobytes())


def _prompt(base: Base, text: str) -> list[int]:
    """As a chat where the model has a template of its own, else as a text to go on from."""
    if base.template.kind != "base":
        return text_ids(base, text)
    return prompt_ids(base.tokenizer, base.template, [{"role": "user", "content": text}])


def _noise(base: Base, prompt: list[int], other: Theirs) -> list[float]:
    if not other.likeliest:
        return []
    logits = our_logits(base, prompt, other.tokens)
    return [_gap_error(row, likeliest) for row, likeliest in zip(logits, other.likeliest)]


def _gap_error(logits: torch.Tensor, likeliest: list[tuple[int, float]]) -> float:
    """How far llama.cpp's gap between its two likeliest tokens is from ours."""
    (first, first_logprob), (second, second_logprob) = likeliest
    return abs((first_logprob - second_logprob) - float(logits[first] - logits[second]))
