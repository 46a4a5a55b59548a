"""Adapters: made, counted, told apart. Reading and writing them as PEFT folders is ``adapter_files.py``."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nomoat.core.errors import UsageError
from nomoat.model.decoder import Decoder
from nomoat.model.delta import Delta
from nomoat.model.directions import top_directions
from nomoat.model.fingerprint import Fingerprint
from nomoat.model.frozen import FrozenWeight
from nomoat.model.linear import Embedding, Linear

ALL_LINEAR = "all-linear"
SCORE = "score"  # what transformers call the head of a sequence classifier of one label, which a reward model is
_PREFIX = "base_model.model."


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterConfig:
    """How an adapter is made. Patterns map a regular expression on module names to a rank or an alpha (as PEFT's).

    ``scaling`` is ``alpha / rank``, or ``alpha / sqrt(rank)`` with ``use_rslora``. Layers under ``first_layer`` get
    none. ``reward_head``: with a head that scores a conversation.
    """

    rank: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    use_rslora: bool = False
    use_dora: bool = False
    init: str = "kaiming"
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    first_layer: int = 0
    reward_head: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or any(rank < 1 for rank in self.rank_pattern.values()):
            raise UsageError("a rank is at least 1")
        if self.init not in ("kaiming", "pissa"):
            raise UsageError(f"no initialisation {self.init!r}", hint="kaiming or pissa")

    def rank_of(self, module: str) -> int:
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        alpha, rank = _by_pattern(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


@dataclasses.dataclass(slots=True, eq=False, weakref_slot=True)
class Adapter:
    """A named set of deltas over one base. ``base_fingerprint`` is unknown for foreign PEFT folders.

    ``score`` (1, D): the head of a reward model, over the hidden state of the last token.
    """

    name: str
    config: AdapterConfig
    deltas: dict[str, Delta]
    base_name: str
    base_fingerprint: Fingerprint | None = None
    score: nn.Parameter | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable tensors under their PEFT names, float32, in a stable order."""
        named: dict[str, nn.Parameter] = {}
        for module, delta in self.deltas.items():
            embedding = is_embedding(module)
            infix = "lora_embedding_{}" if embedding else "lora_{}.weight"
            named[f"{_PREFIX}{module}.{infix.format('A')}"] = delta.lora_A
            named[f"{_PREFIX}{module}.{infix.format('B')}"] = delta.lora_B
            if delta.magnitude is not None:
                named[f"{_PREFIX}{module}.lora_magnitude_vector"] = delta.magnitude
        if self.score is not None:
            named[f"{_PREFIX}{SCORE}.weight"] = self.score
        return named

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters().values())


def layer_of(module: str) -> int | None:
    """Number of the layer that a module stands in; none for the embedding and the head."""
    match = re.search(r"\.layers\.(\d+)\.", module)
    return int(match[1]) if match else None


def is_embedding(module: str) -> bool:
    """Whether the module looks rows up instead of multiplying: its A is (rank, V)."""
    return module.endswith("embed_tokens")


def adaptable(decoder: Decoder) -> dict[str, FrozenWeight]:
    """Every module that an adapter can attach to, by the checkpoint's module name."""
    return {m.name: m.weight for m in decoder.modules() if isinstance(m, Linear | Embedding)}


def chosen_modules(decoder: Decoder, targets: Sequence[str]) -> list[str]:
    """The modules that ``targets`` mean: ``all-linear`` (without the head), or ends of module names.

    Raises ``UsageError`` naming what there is when a target matches nothing.
    """
    modules = adaptable(decoder)
    chosen: list[str] = []
    for target in targets:
        if target == ALL_LINEAR:
            found = [name for name in modules if name != "lm_head" and not is_embedding(name)]
        else:
            found = [name for name in modules if name == target or name.endswith("." + target)]
        if not found:
            kinds = sorted({name.rsplit(".", 1)[-1] for name in modules})
            raise UsageError(f"no module is called {target!r}", hint="targets: all-linear, " + ", ".join(kinds))
        chosen += [name for name in found if name not in chosen]
    return chosen


def new_adapter(
    decoder: Decoder, config: AdapterConfig, *, seed: int, name: str, base_name: str, fingerprint: Fingerprint
) -> Adapter:
    """A fresh adapter that changes nothing yet. The same seed gives the same tensors, module by module."""
    weights = adaptable(decoder)
    deltas = {}
    for module in chosen_modules(decoder, config.target_modules):
        if (layer := layer_of(module)) is not None and layer < config.first_layer:
            continue
        generator = torch.Generator().manual_seed(seed_of(seed, module))
        if config.use_dora and is_embedding(module):
            raise UsageError("DoRA on embed_tokens is not supported", hint="leave embed_tokens out of --target-modules")
        deltas[module] = _new_delta(module, weights[module], config, generator)
    score = new_score(decoder.config.d_model, seed) if config.reward_head else None
    return Adapter(name, config, deltas, base_name, fingerprint, score)


def new_score(d_model: int, seed: int) -> nn.Parameter:
    """A fresh reward head (1, D), drawn as Stiennon et al. 2020 do (arXiv 2009.01325): variance 1 / (D + 1)."""
    generator = torch.Generator().manual_seed(seed_of(seed, SCORE))
    return nn.Parameter(torch.randn(1, d_model, generator=generator) / math.sqrt(d_model + 1))


def seed_of(seed: int, module: str) -> int:
    """A module's own seed, so that what it draws does not depend on which other modules there are."""
    digest = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _new_delta(module: str, weight: FrozenWeight, config: AdapterConfig, generator: torch.Generator) -> Delta:
    out_dim, in_dim = weight.shape if not is_embedding(module) else weight.shape[::-1]
    rank, scaling = config.rank_of(module), config.scaling_of(module)
    if rank > min(out_dim, in_dim):
        raise UsageError(f"rank {rank} is more than {module} has room for ({min(out_dim, in_dim)})")
    magnitude = nn.Parameter(weight.expand().norm(dim=1)) if config.use_dora else None
    if config.init == "pissa" and not is_embedding(module):
        a, b = principal_factors(weight, rank, scaling, generator)
        return Delta(nn.Parameter(a), nn.Parameter(b), scaling, magnitude, anchor=(a.clone(), b.clone()))
    if is_embedding(module):  # as PEFT: A starts at zero, B at random
        a, b = torch.zeros(rank, in_dim), torch.randn(out_dim, rank, generator=generator)
    else:
        bound = 1 / math.sqrt(in_dim)  # kaiming uniform with a = sqrt(5), as PEFT
        a = torch.empty(rank, in_dim).uniform_(-bound, bound, generator=generator)
        b = torch.zeros(out_dim, rank)
    return Delta(nn.Parameter(a), nn.Parameter(b), scaling, magnitude)


def principal_factors(
    weight: FrozenWeight, rank: int, scaling: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """PiSSA's start (Meng et al. 2024, section 3): the top singular directions of W, split evenly.

    Returns A (R, in), B (out, R) with ``scaling * B @ A`` the rank-R part of W.
    """
    u, s, vt = top_directions(weight.expand(), rank, generator)
    root = (s / scaling).sqrt()
    return (root[:, None] * vt).contiguous(), (u * root).contiguous()
