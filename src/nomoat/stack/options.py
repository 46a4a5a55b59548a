"""The options of combining adapters: flags and configuration keys are drawn from here."""

from __future__ import annotations

import dataclasses

from nomoat.core.errors import UsageError
from nomoat.core.options import option

# Named here so that flags can be drawn without the methods themselves; ``methods.py`` has one function for each.
ON_FACTORS = ("concat", "linear", "task_arithmetic", "slerp", "knots_ties")
ON_ENTRIES = ("ties", "dare", "dare_ties", "della", "della_linear", "magnitude_prune")
SUMS = ("concat", "linear", "task_arithmetic")  # weighted sums: every part stays what it is, times a number
METHODS = (*ON_FACTORS, *ON_ENTRIES)
NATS = "nats a token"  # the unit of a skill that is scored by its loss
CORE = "core"
GRAINS = ("adapter", "layer", "module", "direction", CORE)  # what one weight of a search stands before
NORMALIZED = ("ties", "knots_ties")  # a mean by their papers; the others are sums


@dataclasses.dataclass(frozen=True, slots=True)
class CombineOptions:
    """How several adapters become one. Every field is explained by its own help."""

    method: str = option("concat", "how the updates are put together; concat is their exact sum", choices=METHODS)
    rank: int = option(0, "compress every module to this rank; 0: as the method leaves it, which is exact")
    energy: float = option(0.0, "compress each module to the lowest rank that keeps this share of its energy: 0.999")
    density: float = option(0.5, "share of entries that ties, dare, della and magnitude_prune keep")
    epsilon: float = option(0.1, "della: how far the keeping probability strays from the density, up and down")
    scale: float = option(1.0, "multiplies the result (lambda in the papers)")
    normalize: bool | None = option(None, "divide by the weights that took part; ties does unless told otherwise")
    seed: int = option(0, "of what dare and della draw")

    @property
    def normalizes(self) -> bool:
        """``normalize``, or what the method's paper does."""
        return self.method in NORMALIZED if self.normalize is None else self.normalize


@dataclasses.dataclass(frozen=True, slots=True)
class SkillOptions:
    """Which rows say how well each skill is kept."""

    data: tuple[str, ...] = option(
        (), "data sets of the skills, one for each adapter; by default what they were trained on", metavar="NAME,NAME"
    )
    limit: int = option(64, "rows of each skill that are measured")
    score: str = option(
        "check", "what a skill is scored by: right answers, where its rows have answers to compare; or the loss alone",
        choices=("check", "loss"),
    )  # fmt: skip
    finalists: int = option(4, "in a search by check: weightings of low loss that answer for themselves in the end")
    scores: bool = option(True, "in a report: measure every subset of the stack on every skill")
    budget: int = option(12, "in a search: how many weightings of one weight per adapter are tried without a gradient")
    grain: str = option(
        "core",
        "in a search: what one weight stands before when they are learned by gradient: a whole adapter, or each of its "
        "layers, modules, or singular directions of modules; core: a small matrix between all directions of a module",
        choices=GRAINS,
    )
    gradient_steps: int = option(60, "in a search: steps of that learning, on validation rows alone")
    minutes: float | None = option(None, "in a search: choose what can be done in this time")
    keep: float = option(0.95, "in a search: the share of its own gain that each skill shall keep")


def check_skills(options: SkillOptions) -> None:
    """Raise ``UsageError`` on values that make no sense."""
    for name, value in (("limit", options.limit), ("budget", options.budget), ("finalists", options.finalists)):
        if value < 1:
            raise UsageError(f"--{name} cannot be {value}", hint="give 1 or more")
    if options.gradient_steps < 0:
        raise UsageError(f"--gradient-steps cannot be {options.gradient_steps}", hint="give 0 or more")
    if options.grain not in GRAINS:
        raise UsageError(f"no grain {options.grain!r}", hint="one of: " + ", ".join(GRAINS))
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError(f"--minutes {options.minutes:g} is no time at all")


def check(options: CombineOptions) -> None:
    """Raise ``UsageError`` on values and combinations that make no sense."""
    if options.method not in METHODS:
        raise UsageError(f"no method {options.method!r}", hint="one of: " + ", ".join(METHODS))
    if options.rank < 0:
        raise UsageError(f"--rank cannot be {options.rank}", hint="give 1 or more, or 0 for as many as it takes")
    if not 0.0 <= options.energy <= 1.0:
        raise UsageError(f"--energy {options.energy:g} is not a share", hint="give a share of 1, such as 0.999")
    if not 0.0 < options.density <= 1.0:
        raise UsageError(f"--density {options.density:g} is not a share", hint="give more than 0 and at most 1")
    if options.method in ON_ENTRIES and not options.rank:
        raise UsageError(
            f"{options.method} changes single entries, so its result has full rank", hint="say how much: --rank 32"
        )
