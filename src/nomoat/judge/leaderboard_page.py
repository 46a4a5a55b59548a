"""The leaderboard as one self-contained page: a file, or what an arena's server shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from markupsafe import Markup

from nomoat.core.files import atomic_write
from nomoat.judge import pages, rating_plots, units
from nomoat.judge.leaderboard import Leaderboard, Share
from nomoat.judge.votes import Vote

_STRONGEST_SHADE: Final = 42  # percent of the colour in a cell that was won always
_SURE: Final = 0.05
_TOLD_AT_ONCE: Final = 10  # pairs; the others are folded away
_AGREEMENTS_AT_ONCE: Final = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One field of the table of pairs."""

    text: str
    below: str
    shade: Markup


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A battle to look at; ``left`` and ``right`` as the voter saw them."""

    vote: Vote
    left: tuple[str, str]
    right: tuple[str, str]
    winner: str


def write_leaderboard(path: Path, board: Leaderboard) -> None:
    """Write the page, whole or not at all. Raises ``StorageError``."""
    atomic_write(path, render_leaderboard(board))


def render_leaderboard(board: Leaderboard, *, links: dict[str, str] | None = None) -> str:
    """The page as text; ``links`` lead from a served page to others, by their words."""
    page = pages.template("leaderboard.html.jinja")
    names = [each.model for each in board.standings]
    return page.render(
        board=board,
        css=pages.style("receipt.css", "leaderboard.css"),
        links=links or {},
        ratings=_ratings(board),
        told=sorted(board.told, key=lambda each: each.missing),
        told_at_once=_TOLD_AT_ONCE,
        pairs=list(zip(names, [[_cell(share) for share in row] for row in board.shares])),
        categories=[(each, _category(each.name, each.shares)) for each in board.categories],
        samples=[_sample(vote) for vote in board.samples],
        agreements_at_once=_AGREEMENTS_AT_ONCE,
        leaning=[each for each in board.habits if each.p_value < _SURE],
    )


def _ratings(board: Leaderboard) -> Markup:
    rows = [(each.model, each.rating) for each in board.standings]
    return rating_plots.dots(rows, show=units.count, title="Ratings with 95 % intervals") if rows else Markup()


def _category(name: str, shares: tuple[Share, ...]) -> Markup:
    rows = [(f"{each.model} ({each.battles})", each.share) for each in shares]
    return rating_plots.shares(rows, show=units.whole_share, title=f"Share of wins, {name}")


def _cell(share: Share | None) -> Cell:
    if share is None:
        return Cell("", "", Markup())
    value = share.share.value
    shade = round(abs(value - 0.5) * 2 * _STRONGEST_SHADE)
    colour = "good" if value > 0.5 else "bad"
    mix = Markup("background: color-mix(in srgb, var(--{}) {}%, transparent)").format(colour, shade)
    return Cell(units.whole_share(value), f"of {share.battles}", mix)


def _sample(vote: Vote) -> Sample:
    sides = [(vote.model_a, vote.answer_a.whole), (vote.model_b, vote.answer_b.whole)]
    left, right = sides if vote.left == "model_a" else sides[::-1]
    words = {"model_a": vote.model_a, "model_b": vote.model_b, "tie": "a tie", "both_bad": "both bad"}
    return Sample(vote, left, right, words[vote.winner])
