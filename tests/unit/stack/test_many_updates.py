"""Fifty updates in a row, each learned on top of all before it and folded into one adapter of bounded rank."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.artefacts import locate
from nomoat.core.records import Done
from nomoat.core.store import Store
from nomoat.stack.history import generations
from nomoat.stack.job import open_parts, stack
from nomoat.stack.options import CombineOptions
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune
from tiny import tiny_folder

UPDATES, RANK, MOST = 50, 2, 8
ANSWERS = {"colours": "blue sky", "digits": "4 7 9"}


def options(**changes: object) -> TuneOptions:
    plain = {
        "rank": RANK,
        "lr": 3e-3,
        "max_steps": 1,
        "warmup": 0.0,
        "batch_size": 6,
        "eval_rows": 2,
        "max_seq_len": 64,
    }
    return TuneOptions(**{**plain, "threads": 1, "probe_seconds": 0.0, "precision": "float32", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """``all-49``: fifty updates, two skills in turn, every one folded into what was there."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("updates") / "home"
    store = Store(home)
    tiny_folder(home / "bases" / "tiny", num_hidden_layers=1)
    for name, answer in ANSWERS.items():
        with store.writing("data", name) as folder:
            for split, count in (("train", 6), ("valid", 2)):
                rows = [{"prompt": f"{name} {n}", "completion": answer} for n in range(count)]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    list(tune(options(data="colours", base="tiny", name="all-0"), store))
    for number in range(1, UPDATES):
        data, new = list(ANSWERS)[number % 2], f"new-{number}"
        on = f"tiny+all-{number - 1}"
        list(tune(options(data=data, on=on, name=new, rehearse_skills=0.3, seed=number), store))
        parts = open_parts(store, [f"all-{number - 1}", new], "tiny")
        done = list(stack(parts, CombineOptions(rank=MOST, energy=0.9999), store, name=f"all-{number}"))[-1]
        assert isinstance(done, Done) and done.result["rank_before"] <= MOST + RANK
    return store


def test_the_stack_stays_at_its_rank_and_size(store: Store) -> None:
    whole = [each for each in generations(store, locate(store, f"all-{UPDATES - 1}")) if each.name.startswith("all-")]
    assert len(whole) == UPDATES
    assert [each.rank for each in whole[:3]] == [2, 4, 6]  # exact as long as it fits
    assert max(each.rank for each in whole) == MOST
    sizes = [each.parameters for each in whole]
    assert max(sizes) <= sizes[0] * MOST // RANK and sizes[-1] <= sizes[10]


def test_nothing_is_forgotten_and_every_generation_says_what_became_of_each_skill(store: Store) -> None:
    learned = [
        each for each in generations(store, locate(store, f"all-{UPDATES - 1}")) if each.made.startswith("learned")
    ]
    assert len(learned) == UPDATES
    for skill in ANSWERS:
        losses = [each.losses[skill] for each in learned if skill in each.losses]
        assert len(losses) >= UPDATES - 2
        assert losses[-1] < losses[0] and losses[-1] < min(losses) + 0.1


def test_the_history_is_printed_and_drawn(store: Store, tmp_path: Path) -> None:
    env = Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())
    assert main(["show", f"all-{UPDATES - 1}", "--history", "--plot", str(tmp_path / "h.png")], env) == 0
    assert isinstance(env.stdout, io.StringIO)
    lines = env.stdout.getvalue().splitlines()
    assert lines[0].split() == ["adapter", "made", "size", "rank"]
    table, skills = lines[: 2 * UPDATES], lines[-len(ANSWERS) :]
    assert all(line.startswith(("all-", "new-")) for line in table[1:])
    assert [line.split()[0] for line in skills] == list(ANSWERS)
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
