"""Rounded prompts are served where that changes little, and refused where it changes much."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches import in_blocks
from nomoat.core.errors import UsageError
from nomoat.core.store import Store
from nomoat.engine import rounding
from nomoat.engine.names import open_stack
from nomoat.engine.options import ServiceOptions
from nomoat.kernels import quick
from nomoat.serve import run
from nomoat.serve.options import ServeOptions
from nomoat.serve.run import opened
from tiny import tiny_folder


@pytest.fixture
def store(own_home: Path) -> Store:
    store = Store(own_home)
    tiny_folder(store.path("bases", "tiny"), seed=1)
    return store


def greeted(store: Store, monkeypatch: pytest.MonkeyPatch, *, rounded: bool = True) -> list[str]:
    """What is said before the desk is open."""
    monkeypatch.setattr(quick, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(run, "open_stack", lambda store, spec: (in_blocks(open_stack(store, spec)[0]), ()))
    said: list[str] = []
    with opened(store, "tiny", ServeOptions(), ServiceOptions(round_prompts=rounded), said.append):
        return said


@pytest.mark.skipif(not quick.available(), reason="this processor is no quicker with rounded numbers")
def test_what_rounding_changes_is_told_or_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = greeted(store, monkeypatch)
    assert told.startswith("prompts are rounded: 0.0") and "of 384 places" in told
    monkeypatch.setattr(rounding, "DIVERGENCE", 0.0)
    with pytest.raises(UsageError, match="does not bear rounded prompts") as error:
        greeted(store, monkeypatch)
    assert error.value.hint is not None and "--round-prompts" in error.value.hint
    assert greeted(store, monkeypatch, rounded=False) == []


def test_where_nothing_is_won_prompts_stay_exact(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "avx2")
    (told,) = greeted(store, monkeypatch)
    assert told == "prompts are read exactly: this processor is no quicker with rounded ones on tiny"
