"""A leaderboard as JSON, CSV and Markdown; how far its voters agree as a CSV table of its own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Final

from nomoat.core.amounts import counted
from nomoat.judge.leaderboard import Leaderboard, Standing
from nomoat.judge.statistics import Interval

_AGREED: Final = ("voters", "questions", "agreement", "low", "high", "alpha", "alpha_low", "alpha_high")
_COLUMNS: Final = (
    "place", "model", "rating", "low", "high", "wins", "ties", "losses", "tokens", "seconds"
)  # fmt: skip


def as_json(board: Leaderboard) -> str:
    """Everything that the page shows."""
    return json.dumps(board.as_dict(), ensure_ascii=False, indent=2) + "\n"


def as_csv(board: Leaderboard) -> str:
    """A row for every model, strongest first; tokens and seconds are means of its answers."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    spent = {each.model: (f"{each.tokens:.1f}", f"{each.seconds:.2f}") for each in board.costs}
    for each in board.standings:
        cost = spent.get(each.model, ("", ""))
        table.writerow([each.place, each.model, *_rating(each), each.wins, each.ties, each.losses, *cost])
    return text.getvalue()


def voters_csv(board: Leaderboard) -> str:
    """A row for all voters together and for every two of them who have judged the same."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_AGREED)
    for each in board.agreements:
        cells = [f"{bound:.4f}" for found in (each.share, each.alpha) if found for bound in found.as_dict().values()]
        table.writerow([" ".join(each.voters), each.questions, *cells])
    return text.getvalue()


def as_markdown(board: Leaderboard) -> str:
    """The ratings, what can be told, and the pairs, as tables that a repository shows."""
    lines = [f"# Arena {_cell(board.arena)}", "", f"{counted(board.votes, 'vote')}.", ""]
    head = ("Place", "Model", "Rating", "95 % interval", "Won", "Tied", "Lost")
    rows = [
        (str(each.place), each.model, rating, f"{low} to {high}", str(each.wins), str(each.ties), str(each.losses))
        for each in board.standings
        for rating, low, high in [_rating(each)]
    ]
    lines += [*_table(head, rows), "", *(f"- {_cell(each.sentence)}" for each in board.told)]
    names = [each.model for each in board.standings]
    pairs = [
        (name, *("" if share is None else f"{100 * share.share.value:.0f} % of {share.battles}" for share in row))
        for name, row in zip(names, board.shares)
    ]
    lines += ["", "Share of wins of the row against the column, ties half:", "", *_table(("", *names), pairs)]
    if board.agreements:
        agreed = [
            (", ".join(each.voters), str(each.questions), _percent(each.share), _alpha(each.alpha))
            for each in board.agreements
        ]
        columns = ("Voters", "Questions", "Agree, 95 % interval", "Krippendorff's alpha")
        lines += ["", "How often two voters say the same of the same question:", "", *_table(columns, agreed)]
    return "\n".join(lines) + "\n"


def _percent(found: Interval) -> str:
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _alpha(found: Interval | None) -> str:
    return "" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _rating(each: Standing) -> tuple[str, str, str]:
    return f"{each.rating.value:.0f}", f"{each.rating.low:.0f}", f"{each.rating.high:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(map(_cell, row)) + " |" for row in (head, ["---"] * len(head), *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


FORMS: Final[dict[str, Callable[[Leaderboard], str]]] = {
    "json": as_json,
    "csv": as_csv,
    "markdown": as_markdown,
    "voters": voters_csv,
}
