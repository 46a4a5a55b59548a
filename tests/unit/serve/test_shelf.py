"""Adapters on offer: found, opened, kept, put away, and never by a path that nobody allowed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nomoat.core.errors import AdapterMismatch, NomoatError, UsageError
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.load import Base
from nomoat.serve.errors import RequestError
from nomoat.serve.options import ServeOptions
from nomoat.serve.shelf import Shelf
from tiny import tiny_base


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(tmp_path / "base")


@pytest.fixture
def store(base: Base, tmp_path: Path) -> Store:
    """A store with the adapters a, b, c of the base and one of another."""
    store = Store()
    for seed, name in enumerate("abc"):
        _keep(store, base, name, seed, base.name)
    _keep(store, tiny_base(tmp_path / "another", "qwen2"), "stranger", 9, "another")
    return store


def _keep(store: Store, base: Base, name: str, seed: int, of: str, on: str = "") -> None:
    with store.writing("adapters", name) as folder:
        save_adapter(base.new_adapter(AdapterConfig(rank=2), seed=seed, name=name), folder)
        parents, options = (Parent("bases", of, ""),), {"on": on} if on else {}
        write_lineage(folder, Lineage("adapters", name, parents=parents, options=options))


def shelf(store: Store, base: Base, closed: list[Adapter] | None = None, **options: object) -> Shelf:
    put_away = closed if closed is not None else []
    return Shelf(store, base, ServeOptions(**options), on_unload=put_away.append)  # type: ignore[arg-type]


def worn(found: Shelf, model: str) -> list[tuple[str, float]]:
    return [(adapter.name, weight) for adapter, weight in found.outfit(model).worn]  # type: ignore[attr-defined]


def test_what_belongs_to_the_base_is_on_offer(store: Store, base: Base) -> None:
    assert shelf(store, base).names() == ["a", "b", "c"]


def test_names_mean_stacks(store: Store, base: Base) -> None:
    found = shelf(store, base, stacks=("mix=a:0.5+b",))
    assert worn(found, "tiny-llama") == [] and worn(found, "a:2") == [("a", 2.0)]
    assert worn(found, "tiny-llama+a+b:-1") == [("a", 1.0), ("b", -1.0)]
    assert worn(found, "mix") == [("a", 0.5), ("b", 1.0)] == worn(found, "mix:latest")
    assert found.outfit("mix").name == "tiny-llama+a:0.5+b"


def test_numbers_add_to_the_name_as_llama_server_has_them(store: Store, base: Base) -> None:
    found = shelf(store, base)
    outfit = found.outfit("a", [(0, 0.25), (2, 1.0)])
    assert outfit.name == "tiny-llama+a:0.25+c"
    found.set_default({1: 0.5, 2: 0})
    assert found.outfit(None).name == "tiny-llama+b:0.5"


def test_a_named_stack_is_worn_beside_others_and_at_a_weight(store: Store, base: Base) -> None:
    found = shelf(store, base, stacks=("mix=a:0.5+b",))
    assert found.outfit("tiny-llama+mix:2+a:0.25+c").name == "tiny-llama+a:1.25+b:2+c"
    found.unload("a")
    with pytest.raises(RequestError, match="'a' does not exist here"):
        found.outfit("mix")


def test_an_adapter_alone_brings_the_stack_that_it_learned_on_top_of(store: Store, base: Base) -> None:
    _keep(store, base, "above", 5, base.name, on="tiny-llama+a:0.5+adapters/b")
    found = shelf(store, base, stacks=("mix=above:2",))
    assert found.outfit("above:3").name == "tiny-llama+a:0.5+b+above:3"
    assert found.outfit("above+b:-1+c").name == "tiny-llama+a:0.5+above+b:-1+c"
    assert found.outfit("tiny-llama+above").name == "tiny-llama+above" == found.outfit("mix").name.removesuffix(":2")
    found.unload("a")
    with pytest.raises(RequestError, match="'a' does not exist here"):
        found.outfit("above")


def test_what_an_adapter_learned_on_top_of_may_lie_where_nobody_may_read(
    store: Store, base: Base, tmp_path: Path
) -> None:
    shutil.copytree(store.home / "adapters" / "a", tmp_path / "elsewhere")
    _keep(store, base, "above", 5, base.name, on=f"tiny-llama+{tmp_path / 'elsewhere'}")
    with pytest.raises(RequestError, match="not on offer here") as caught:
        shelf(store, base).outfit("above")
    assert caught.value.status == 404 and str(tmp_path) not in caught.value.message
    offered = shelf(store, base, adapters=(str(tmp_path / "elsewhere"),))
    assert offered.outfit("above").name == "tiny-llama+elsewhere+above"


def test_the_one_unused_for_longest_leaves_the_memory_and_opens_again(store: Store, base: Base) -> None:
    closed: list[Adapter] = []
    found = shelf(store, base, closed, adapter_mb=0)
    first = found.outfit("a").worn[0][0]
    assert found.outfit("a").worn[0][0] is first and closed == []
    assert worn(found, "a+b") == [("a", 1.0), ("b", 1.0)]
    assert closed == [first] and found.names() == ["a", "b", "c"]
    assert found.outfit("a").worn[0][0] is not first


def test_a_new_adapter_and_a_changed_one_are_seen_without_a_restart(store: Store, base: Base) -> None:
    found = shelf(store, base)
    before = found.outfit("a").worn[0][0]
    _keep(store, base, "d", 5, base.name)
    assert worn(found, "d") == [("d", 1.0)] and "d" in found.names()
    weights = store.path("adapters", "a") / "adapter_model.safetensors"
    os.utime(weights, (1, 1))
    assert found.outfit("a").worn[0][0] is not before


def test_an_unloaded_adapter_is_gone_until_it_is_loaded_again(store: Store, base: Base) -> None:
    closed: list[Adapter] = []
    found = shelf(store, base, closed)
    found.outfit("a")
    found.unload("a")
    assert [adapter.name for adapter in closed] == ["a"] and found.names() == ["b", "c"]
    for ask in (lambda: found.outfit("a"), lambda: found.unload("a")):
        with pytest.raises(RequestError) as gone:
            ask()
        assert gone.value.status == 404
    found.load("a")
    found.load("alias", "b")
    assert worn(found, "a+alias") == [("a", 1.0), ("alias", 1.0)]
    with pytest.raises(UsageError, match="taken"):
        found.load("alias", "c")


def test_paths_open_only_inside_the_folders_that_the_owner_named(store: Store, base: Base, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    shutil.copytree(store.path("adapters", "a"), allowed / "mine")
    shutil.copytree(store.path("adapters", "a"), tmp_path / "outside")
    found = shelf(store, base, adapter_folders=(str(allowed),))
    found.load("mine", str(allowed / "mine"))
    assert worn(found, "mine") == [("mine", 1.0)]
    (allowed / "link").symlink_to(tmp_path / "outside")
    for path in (tmp_path / "outside", allowed / ".." / "outside", allowed / "link"):
        with pytest.raises(RequestError) as kept_out:
            found.load("x", str(path))
        assert kept_out.value.status == 403
    assert "x" not in found.names()


def test_a_load_that_fails_leaves_the_offer_as_it_was(store: Store, base: Base, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", "qwen2", hidden_size=16, head_dim=4)
    with store.writing("adapters", "foreign") as folder:
        save_adapter(other.new_adapter(AdapterConfig(rank=2), seed=0, name="foreign"), folder)
    found = shelf(store, base)
    with pytest.raises(AdapterMismatch):
        found.load("foreign")
    assert found.names() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "model", ["nobody", "../a", "a/../b", "/etc", "tiny-llama+", "tiny-llama+a+a", "a+a", "+a", ":"]
)
def test_a_name_that_means_nothing_here_is_refused(store: Store, base: Base, model: str) -> None:
    with pytest.raises(NomoatError):
        shelf(store, base).outfit(model)


def test_options_that_make_no_sense_are_refused_at_the_start(store: Store, base: Base) -> None:
    with pytest.raises(UsageError, match="NAME=STACK"):
        shelf(store, base, stacks=("mix",))
    with pytest.raises(UsageError, match="lets other machines in"):
        ServeOptions(host="0.0.0.0")
    with pytest.raises(UsageError, match="--adapter-mb"):
        ServeOptions(adapter_mb=-1)
    with pytest.raises(UsageError, match="the base"):
        shelf(store, base, stacks=("tiny-llama=a",))
