"""What to give up so that a run fits the memory, the time and the disk there are; in words for the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nomoat.core.amounts import duration, size
from nomoat.core.errors import ResourceError
from nomoat.model.recompute import Recompute
from nomoat.train.cost import CostModel
from nomoat.train.prediction import Z80, Case, Outline, Way, Wish, disk_bytes_of, seconds_of, sigma_of
from nomoat.train.probe import Probe

_SMALLEST_STEPS = 4  # fewer updates than this are not a tune
_SMALLEST_PACK = 64

_AGAIN: dict[Recompute, str] = {"mlp": "parts of the MLPs", "layer": "every layer"}


def fit_memory(
    wish: Wish, probe: Probe, ways: Sequence[Way], case: Callable[[Way, int], Case]
) -> tuple[Case, list[str]]:
    """The fastest case that fits: other ways at first, and smaller pieces where a bound was asked for."""
    asked = case(ways[0], wish.pack_tokens)
    limit = min(wish.available_bytes, wish.memory_bytes or wish.available_bytes)
    if asked.peak_bytes <= limit:
        return asked, []
    whole = [one for way in ways if (one := case(way, wish.pack_tokens)).peak_bytes <= limit]
    smaller = [case(way, tokens) for tokens in _smaller(asked.outline) for way in ways]
    smaller = [one for one in smaller if one.peak_bytes <= limit]
    fitting = [*whole, *smaller] if wish.memory_bytes is not None else whole
    if not whole and not smaller:
        raise ResourceError(
            f"this tune needs about {size(asked.peak_bytes)} of memory; {size(limit)} {_whose(wish)}",
            hint=f"not even pieces of one row ({asked.outline.longest_row} tokens) fit: give a shorter --max-seq-len, "
            f"a smaller --rank or a smaller base, or close other programs",
        )
    if not fitting:
        raise ResourceError(
            f"this tune needs about {size(asked.peak_bytes)} of memory; {size(limit)} are free",
            hint=f"--pack-tokens {smaller[0].outline.pack_tokens} learns the same with {size(smaller[0].peak_bytes)}",
        )
    best = min(fitting, key=lambda one: seconds_of(wish, probe, one.model, one.outline, wish.steps))
    return best, [_given_up_for_memory(asked, best, limit)]


def _given_up_for_memory(asked: Case, chosen: Case, limit: int) -> str:
    words = []
    if chosen.way != asked.way:
        words.append(f"computes {_AGAIN[chosen.way.recompute]} twice")
    if chosen.outline.pack_tokens != asked.outline.pack_tokens:
        words.append(f"packs {chosen.outline.pack_tokens} tokens at a time instead of {asked.outline.pack_tokens}")
    return f"{' and '.join(words)} to stay under {size(limit)}: the same learning, a little slower"


def _whose(wish: Wish) -> str:
    bounded = wish.memory_bytes is not None and wish.memory_bytes <= wish.available_bytes
    return "were allowed" if bounded else "are free"


def _smaller(asked: Outline) -> list[int]:
    """Ever smaller settings of ``pack_tokens``, down to pieces of the longest row."""
    settings, tokens = [], min(asked.pack_tokens, asked.largest_tokens)
    while tokens * 3 // 4 > max(asked.longest_row, _SMALLEST_PACK):
        tokens = tokens * 3 // 4
        settings.append(tokens)
    return [*settings, asked.longest_row]


def fit_time(wish: Wish, probe: Probe, model: CostModel, outline: Outline) -> int:
    """The most steps whose upper bound keeps to the budget; fewer epochs first, then fewer rows."""
    assert wish.budget_s is not None
    spread = math.exp(Z80 * sigma_of(probe, model, outline))

    def fits(steps: int) -> bool:
        return seconds_of(wish, probe, model, outline, steps) * spread <= (wish.budget_s or 0)

    low, high = 0, wish.steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    least = min(_SMALLEST_STEPS, wish.steps)
    if low < least:
        need_s = seconds_of(wish, probe, model, outline, least) * spread
        raise ResourceError(
            f"{wish.budget_words}: {duration(wish.budget_s)} are left, and even {least} steps need "
            f"up to {duration(need_s)}",
            hint=f"give --minutes {math.ceil(need_s / 60) + 1} or more, a smaller --batch-size, or a smaller base",
        )
    return low


def given_up_for_time(wish: Wish, steps: int) -> list[str]:
    """What fewer steps leave out, if they do."""
    if steps >= wish.steps:
        return []
    asked = wish.steps / wish.steps_per_epoch
    if steps >= wish.steps_per_epoch:
        return [f"{steps / wish.steps_per_epoch:.2g} of {asked:g} epochs, {wish.budget_words}"]
    rows = min(wish.rows, steps * wish.batch_size)
    fewer = f"one pass over {rows:,} of {wish.rows:,} rows"
    return [f"{fewer} instead of {asked:g} epochs, {wish.budget_words}"]


def check_disk(wish: Wish) -> None:
    """Raise ``ResourceError`` where checkpoints, cache and adapter have no room."""
    needed = disk_bytes_of(wish)
    if needed > wish.disk_free_bytes:
        raise ResourceError(
            f"this tune needs {size(needed)} of disk; {size(wish.disk_free_bytes)} are free",
            hint="free some space, point NOMOAT_HOME at another disk, or give a smaller --rank"
            + (", or --prefix-cache bf16 or none" if wish.cache_bytes else ""),
        )
