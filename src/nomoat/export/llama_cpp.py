"""llama.cpp itself, through the ``xllamacpp`` wheel where it is installed: what it makes of an exported file."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nomoat.core.errors import ParityMismatch
from nomoat.export.logits import Bound
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base

_PROBABILITIES = 20
_CONTEXT = 2048
_ANSWER = 16


def installed() -> bool:
    """Whether llama.cpp can be asked."""
    return importlib.util.find_spec("xllamacpp") is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """What llama.cpp is to load. ``template``: Jinja source, where the model file does not bring its own."""

    model: Path
    lora: Path | None = None
    template: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that waits for an answer, and the ids that it is in training."""

    messages: Sequence[Mapping[str, Any]]
    ids: Sequence[int]


@dataclasses.dataclass(frozen=True, slots=True)
class LlamaCppReceipt:
    """What llama.cpp was asked.

    ``chats``: conversations that it renders and tokenizes as training does. Over ``prompts``: mean KL in nats at the
    first token of the answer, over the tokens that it tells the probability of, and the share of its greedy tokens
    that are ours too, or as likely to within a tenth of a nat.
    """

    chats: int
    prompts: int
    kl: float
    agreement: float


def check_llama_cpp(
    loaded: Loaded,
    trained: tuple[Base, Stack],
    prompts: Sequence[Sequence[int]],
    bound: Bound,
    chats: Sequence[Chat] = (),
) -> LlamaCppReceipt | None:
    """Load the files with llama.cpp and compare its answers with ours; None where no prompt is short enough.

    Raises ``ParityMismatch`` where llama.cpp does not load them, sees another prompt, or says something else.
    """
    fitting = [list(prompt) for prompt in prompts if 0 < len(prompt) <= _CONTEXT - _ANSWER]
    short = [chat for chat in chats if len(chat.ids) < _CONTEXT]
    if not fitting:
        return None
    server = _opened(loaded)
    for chat in short:
        _check_chat(server, chat, trained[0])
    divergences, agreed = [], []
    for prompt in fitting:
        tokens, likeliest = _answer(server, prompt)
        ours = _our_logprobs(trained, prompt, tokens)
        agreed += [float(row.max() - row[token]) < 0.1 for row, token in zip(ours, tokens)]
        if likeliest:
            divergences.append(_divergence(ours[0], likeliest))
    kl = math.fsum(divergences) / max(1, len(divergences))
    agreement = sum(agreed) / max(1, len(agreed))
    if kl > bound.kl or agreement < bound.agreement:
        raise ParityMismatch(
            f"llama.cpp does not say what was trained: KL {kl:.4g} nats (let pass: {bound.kl:g}), {agreement:.1%} of"
            f" its greedy tokens are ours (at least {bound.agreement:.0%})"
        )
    return LlamaCppReceipt(len(short), len(fitting), kl, agreement)


def _opened(loaded: Loaded) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(loaded.model)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = _CONTEXT, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.use_jinja = True
    if loaded.template:
        params.chat_template = loaded.template
    if loaded.lora is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(loaded.lora), 1.0)]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ParityMismatch(f"llama.cpp does not load {(loaded.lora or loaded.model).name}: {error}") from error


def _check_chat(server: Any, chat: Chat, base: Base) -> None:
    """llama.cpp tells how many tokens it made of a conversation, and their text."""
    replies: list[dict[str, Any]] = []
    question = {"messages": list(chat.messages), "max_tokens": 1, "temperature": 0, "verbose": True}
    server.handle_chat_completions(question, replies.append)
    if "usage" not in replies[0]:
        raise ParityMismatch(f"llama.cpp does not take a conversation: {replies[0]!r:.200}")
    n, text = replies[0]["usage"]["prompt_tokens"], str(replies[0]["__verbose"].get("prompt", ""))
    # it "cleans up" white space when it tells the text, so that only the number of tokens speaks for that
    text, ours = ("".join(each.split()) for each in (text, base.tokenizer.decode(chat.ids, skip_specials=False)))
    if n == len(chat.ids) and text == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(text, ours)) if a != b), min(len(text), len(ours)))
    raise ParityMismatch(
        f"llama.cpp makes {n} tokens of a prompt that is {len(chat.ids)} in training: at character {at}"
        f" {text[at : at + 30]!r} instead of {ours[at : at + 30]!r}"
    )


def _answer(server: Any, prompt: list[int]) -> tuple[list[int], list[tuple[int, float]]]:
    """The greedy answer, and the likeliest first tokens with their log-probabilities."""
    question = {"prompt": prompt, "temperature": 0, "n_probs": _PROBABILITIES, "cache_prompt": False}
    question |= {"return_tokens": True, "verbose": True}
    replies: list[dict[str, Any]] = []
    server.handle_completions(question | {"n_predict": _ANSWER}, replies.append)
    server.handle_completions(question | {"n_predict": 1}, replies.append)
    if any("__verbose" not in reply for reply in replies):
        raise ParityMismatch(f"llama.cpp does not answer: {replies[0]!r:.200}")
    told = (replies[1]["choices"][0]["logprobs"] or {"content": []})["content"]
    likeliest = [(top["id"], top["logprob"]) for place in told[:1] for top in place["top_logprobs"]]
    return list(replies[0]["__verbose"]["tokens"]), likeliest


@torch.inference_mode()
def _our_logprobs(trained: tuple[Base, Stack], prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Ours at the places of the answer's tokens and, where it is empty, of its first: (n, V)."""
    base, stack = trained
    tokens = [*prompt, *answer[:-1]]
    hidden = base.decoder(torch.tensor(tokens), Layout([len(tokens)]), stack)
    return torch.log_softmax(base.decoder.logits(hidden[len(prompt) - 1 :], stack), -1)


def _divergence(ours: torch.Tensor, theirs: Sequence[tuple[int, float]]) -> float:
    """KL over the tokens that are told, all others taken as one more; never below zero but by rounding."""
    p = [float(ours[token].exp()) for token, _ in theirs]
    q = [math.exp(logprob) for _, logprob in theirs]
    p.append(max(0.0, 1 - math.fsum(p)))
    q.append(max(1e-9, 1 - math.fsum(q)))
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q) if a > 1e-9)
