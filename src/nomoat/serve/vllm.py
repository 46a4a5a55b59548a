"""What vLLM needs to serve the same base and adapters on a cluster: its command line, and what stands in the way.

Flags: docs.vllm.ai, "vllm serve" and "LoRA Adapters". vLLM takes one adapter a prompt, wants Hugging Face weights,
and rounds ranks up to a list of its own.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.formats.hf import is_hf_folder
from nomoat.formats.peft import read_adapter
from nomoat.serve.options import ServeOptions

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_MAX_RESIDENT = 32


@dataclasses.dataclass(frozen=True, slots=True)
class VllmPlan:
    """``arguments`` start the server; ``notes`` say what is different there or must be done first."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def command(self) -> str:
        """As typed in a POSIX shell."""
        return shlex.join(self.arguments)


def vllm_plan(base: Path, name: str, adapters: Mapping[str, Path], options: ServeOptions, *, context: int) -> VllmPlan:
    """Read every adapter's configuration and write the command. Raises what reading raises."""
    arguments = ["vllm", "serve", str(base), "--served-model-name", name, "--max-model-len", str(context)]
    arguments += ["--host", options.host, "--port", str(options.port or 8000)]
    arguments += ["--api-key", options.api_key] if options.api_key else []
    notes = [] if is_hf_folder(base) else [
        f"{base} is a GGUF file. vLLM serves adapters on Hugging Face weights: put the folder that this base was "
        "converted from in its place."
    ]  # fmt: skip
    fit: dict[str, Path] = {}
    ranks = [1]
    for word, folder in adapters.items():
        rank, obstacle = _rank_and_obstacle(folder)
        if obstacle:
            notes.append(f"adapter {word} is left out: {obstacle}")
            continue
        fit[word] = folder
        ranks.append(rank)
    if fit:
        pairs = [f"{word}={folder}" for word, folder in fit.items()]
        limits = ["--max-lora-rank", str(_rounded(max(ranks))), "--max-loras", str(min(len(fit), _MAX_RESIDENT))]
        arguments += ["--enable-lora", "--lora-modules", *pairs, *limits]
    if options.stacks:
        notes.append("vLLM wears one adapter a prompt: make each stack one adapter with `nomoat stack` first.")
    return VllmPlan(tuple(arguments), tuple(notes))


def _rank_and_obstacle(folder: Path) -> tuple[int, str]:
    """An adapter's largest rank, and why vLLM would not take it, if it would not."""
    config = read_adapter(folder).config
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    rank = max(one for one in ranks if isinstance(one, int))
    targets = str(config.get("target_modules"))
    if config.get("use_dora"):
        return rank, "vLLM has no DoRA"
    if "embed_tokens" in targets or "lm_head" in targets:
        return rank, "vLLM adapts neither embeddings nor the head"
    if rank > _RANKS[-1]:
        return rank, f"its rank {rank} is above vLLM's {_RANKS[-1]}"
    return rank, ""


def _rounded(rank: int) -> int:
    found = next((one for one in _RANKS if one >= rank), None)
    if found is None:
        raise UsageError(f"rank {rank} is above vLLM's {_RANKS[-1]}")
    return found
