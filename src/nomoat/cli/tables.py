"""A table for a person on a terminal, plain aligned columns for a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.cli.environment import Environment


def print_table(env: Environment, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their column heads; a terminal gets a drawn table."""
    if env.stdout.isatty():
        _print_drawn(env, columns, rows)
        return
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    for row in (columns, *rows):
        env.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _print_drawn(env: Environment, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    Console(file=env.stdout, highlight=False).print(table)


def print_facts(env: Environment, facts: Sequence[tuple[str, str]]) -> None:
    """Print ``name   value`` lines; a value of several lines is indented under its first."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        first, *rest = value.splitlines() or [""]
        env.print(f"{name:<{width}}  {first}".rstrip())
        for line in rest:
            env.print(" " * (width + 2) + line)
