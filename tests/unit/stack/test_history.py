from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.artefacts import locate
from nomoat.core.errors import UsageError
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.stack.history import Course, Generation, courses, draw_history, generations


@pytest.fixture
def store(own_home: Path) -> Store:
    """Three tuned generations, the first two compressed into one, the third on top of it."""
    store = Store(own_home)
    write(store, "one", [("data", "colours")], {"held_out_loss_after": 0.5, "adapter_parameters": 100})
    skills = {"colours": {"adapter": "one", "before": 0.5, "after": 0.6}}
    write(store, "two", [("data", "digits"), ("adapter", "one")], {"held_out_loss_after": 0.4, "skills": skills})
    write(store, "both", [("adapter", "one"), ("adapter", "two")], {"adapter_parameters": 150}, method="concat")
    skills = {"colours": {"after": 0.7}, "digits": {"after": 0.45}}
    write(store, "three", [("data", "names"), ("adapter", "both")], {"held_out_loss_after": 0.3, "skills": skills})
    return store


def write(store: Store, name: str, parents: list[tuple[str, str]], metrics: dict[str, Any], **options: Any) -> None:
    made_of = tuple(Parent(kind, parent, "") for kind, parent in parents)
    with store.writing("adapters", name) as folder:
        write_lineage(folder, Lineage(kind="adapters", name=name, parents=made_of, metrics=metrics, options=options))


def test_generations_come_earliest_first_with_every_skill_that_was_measured(store: Store) -> None:
    history = generations(store, locate(store, "three"))
    assert [each.name for each in history] == ["one", "two", "both", "three"]
    assert [each.made for each in history] == ["learned colours", "learned digits", "concat", "learned names"]
    assert history[1].losses == {"colours": 0.6, "digits": 0.4}
    assert history[3].losses == {"colours": 0.7, "digits": 0.45, "names": 0.3}
    assert courses(history) == [
        Course("colours", first=0.5, worst=0.7, worst_at="three", last=0.7),
        Course("digits", first=0.4, worst=0.45, worst_at="three", last=0.45),
        Course("names", first=0.3, worst=0.3, worst_at="three", last=0.3),
    ]


@pytest.mark.parametrize("skills", [1, 60])
def test_the_picture_is_a_png_as_wide_as_a_page_however_long_the_history(tmp_path: Path, skills: int) -> None:
    history = [
        Generation(f"all-{n}", "learned", 100, 8, {f"skill-{k}": 1.0 + n / 60 for k in range(min(n + 1, skills))})
        for n in range(60)
    ]
    draw_history(history, tmp_path / "history.png")
    written = (tmp_path / "history.png").read_bytes()
    assert written.startswith(b"\x89PNG") and int.from_bytes(written[16:20], "big") == 1400


def test_a_loop_in_damaged_records_is_cut_and_other_kinds_are_refused(store: Store, own_home: Path) -> None:
    write(store, "odd", [("adapter", "even")], {})
    write(store, "even", [("adapter", "odd")], {})
    assert [each.name for each in generations(store, locate(store, "odd"))] == ["even", "odd"]
    with store.writing("data", "rows") as folder:
        write_lineage(folder, Lineage(kind="data", name="rows"))
    with pytest.raises(UsageError, match="no history"):
        generations(store, locate(store, "rows"))


def test_show_prints_a_line_a_generation_and_a_line_a_skill(store: Store, tmp_path: Path) -> None:
    env = Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())
    assert main(["show", "three", "--history", "--plot", str(tmp_path / "h.png")], env) == 0
    assert isinstance(env.stdout, io.StringIO)
    lines = [line.split() for line in env.stdout.getvalue().splitlines()]
    assert lines[0] == ["adapter", "made", "size", "rank"]
    assert lines[4][:3] == ["three", "learned", "names"]
    assert lines[8] == ["data", "set", "first", "worst", "at", "last"]
    assert lines[9] == ["colours", "0.5000", "0.7000", "three", "0.7000"]
    assert (tmp_path / "h.png").is_file()
