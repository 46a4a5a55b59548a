"""Adapters come when they are asked for, leave when room is short, and are never mixed up."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import AdapterMismatch, FormatError, NomoatError, NotFound, UsageError
from nomoat.core.store import Store
from nomoat.engine.generate import Engine, text_ids
from nomoat.engine.names import Part
from nomoat.engine.request import Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.wardrobe import Wardrobe
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.load import Base
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write_adapter(base: Base, folder: Path, seed: int, rank: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    adapter = base.new_adapter(AdapterConfig(rank=rank, alpha=16), seed=seed, name=folder.name)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
    save_adapter(adapter, folder)
    return folder


def answer(base: Base, wardrobe: Wardrobe, *parts: Part) -> list[int]:
    request = Request(text_ids(base, "hello there"), Sampling(max_tokens=8), wardrobe.wear(parts))
    return Engine(base).complete([request])[0].tokens


def loaded(wardrobe: Wardrobe) -> list[str]:
    return [one.name for one in wardrobe.known() if one.loaded]


def test_a_stored_adapter_is_worn_by_name_as_soon_as_it_is_there(base: Base, store: Store) -> None:
    wardrobe = Wardrobe(base, store)
    with pytest.raises(NotFound, match="sql"):
        wardrobe.wear([Part("sql")])
    write_adapter(base, store.path("adapters", "sql"), 1)
    assert [(one.name, one.loaded) for one in wardrobe.known()] == [("sql", False)]
    ((first, weight),) = wardrobe.wear([Part("sql", 0.5)])
    ((second, _),) = wardrobe.wear([Part("sql")])
    assert first is second and weight == 0.5 and loaded(wardrobe) == ["sql"]


def test_an_adapter_that_was_written_anew_is_read_anew(base: Base, store: Store) -> None:
    gone: list[Adapter] = []
    wardrobe = Wardrobe(base, store, on_unload=gone.append)
    folder = write_adapter(base, store.path("adapters", "sql"), 1)
    before = answer(base, wardrobe, Part("sql"))
    ((old, _),) = wardrobe.wear([Part("sql")])
    shutil.rmtree(folder)
    write_adapter(base, folder, 2)
    assert answer(base, wardrobe, Part("sql")) != before
    assert gone == [old]


def test_a_stray_folder_in_the_store_hides_no_adapter(base: Base, store: Store) -> None:
    write_adapter(base, store.path("adapters", "sql"), 1)
    (store.home / "adapters" / "not a name").mkdir()
    assert [one.name for one in Wardrobe(base, store).known()] == ["sql"]


def test_a_hundred_adapters_are_known_and_as_many_loaded_as_the_budget_has_room_for(base: Base, store: Store) -> None:
    for seed in range(20):
        write_adapter(base, store.path("adapters", f"a{seed:02}"), seed)
    for number in range(20, 100):
        shutil.copytree(store.path("adapters", "a00"), store.path("adapters", f"a{number:02}"))
    one = Wardrobe(base, store)
    one.wear([Part("a00")])
    gone: list[str] = []
    wardrobe = Wardrobe(
        base, store, budget_bytes=3 * one.resident_bytes, on_unload=lambda adapter: gone.append(adapter.name)
    )
    texts = {name: answer(base, wardrobe, Part(name)) for name in ("a01", "a02", "a03", "a04", "a05")}
    assert loaded(wardrobe) == ["a03", "a04", "a05"] and gone == ["a01", "a02"]
    wardrobe.wear([Part("a03")])
    assert answer(base, wardrobe, Part("a01")) == texts["a01"]
    assert loaded(wardrobe) == ["a01", "a03", "a05"] and len(wardrobe.known()) == 100
    assert wardrobe.resident_bytes == 3 * one.resident_bytes


def test_a_folder_is_registered_and_unloaded_at_run_time(base: Base, store: Store, tmp_path: Path) -> None:
    wardrobe = Wardrobe(base, store)
    folder = write_adapter(base, tmp_path / "elsewhere" / "x", 3)
    wardrobe.register("mine", folder)
    wardrobe.register("mine", folder)
    assert loaded(wardrobe) == ["mine"]
    assert wardrobe.wear([Part("mine")])[0][0].name == "mine"
    with pytest.raises(UsageError, match="taken"):
        wardrobe.register("mine", write_adapter(base, tmp_path / "other", 4))
    wardrobe.unload("mine")
    assert wardrobe.known() == [] and wardrobe.resident_bytes == 0
    for call in (lambda: wardrobe.wear([Part("mine")]), lambda: wardrobe.unload("mine")):
        with pytest.raises(NotFound):
            call()


def test_a_stored_adapter_that_is_unloaded_comes_back_when_it_is_worn(base: Base, store: Store) -> None:
    write_adapter(base, store.path("adapters", "sql"), 1)
    wardrobe = Wardrobe(base, store)
    wardrobe.wear([Part("sql")])
    wardrobe.unload("sql")
    assert loaded(wardrobe) == []
    wardrobe.wear([Part("sql")])
    assert loaded(wardrobe) == ["sql"]


def test_what_cannot_be_worn_is_not_registered(base: Base, store: Store, tmp_path: Path) -> None:
    wardrobe = Wardrobe(base, store)
    other = tiny_base(tmp_path / "wide", hidden_size=64, head_dim=16)
    foreign = write_adapter(other, tmp_path / "foreign", 1)
    broken = write_adapter(base, tmp_path / "broken", 1)
    (broken / "adapter_model.safetensors").write_bytes(b"not tensors at all")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, error in ((foreign, AdapterMismatch), (broken, FormatError), (empty, NotFound)):
        with pytest.raises(error):
            wardrobe.register("x", folder)
    assert wardrobe.known() == []


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "", "adapters/../x", "x\x00y"])
def test_a_name_is_never_a_path(base: Base, store: Store, tmp_path: Path, name: str) -> None:
    write_adapter(base, store.home / "secret", 1)
    wardrobe = Wardrobe(base, store)
    with pytest.raises(NomoatError):
        wardrobe.wear([Part(name)])
    with pytest.raises(NomoatError):
        wardrobe.register(name, write_adapter(base, tmp_path / "fine", 1))


def test_a_named_stack_multiplies_its_weights_and_takes_no_adapters_name(base: Base, store: Store) -> None:
    for seed, name in enumerate(("chat", "sql")):
        write_adapter(base, store.path("adapters", name), seed + 1)
    wardrobe = Wardrobe(base, store)
    wardrobe.name_stack("both", [Part("chat", 0.8), Part("sql")])
    worn = wardrobe.wear([Part("both", 0.5)])
    assert [(adapter.name, weight) for adapter, weight in worn] == [("chat", 0.4), ("sql", 0.5)]
    assert wardrobe.stacks() == {"both": (Part("chat", 0.8), Part("sql"))}
    assert wardrobe.take_apart([Part("chat", 0.2), Part("both")]) == (Part("chat", 1.0), Part("sql"))
    with pytest.raises(UsageError, match="adapter's"):
        wardrobe.name_stack("sql", [Part("chat")])
    with pytest.raises(NotFound):
        wardrobe.name_stack("more", [Part("nobody")])
    wardrobe.drop_stack("both")
    for call in (lambda: wardrobe.wear([Part("both")]), lambda: wardrobe.drop_stack("both")):
        with pytest.raises(NotFound):
            call()


def test_many_threads_that_want_one_adapter_read_it_once(base: Base, store: Store) -> None:
    write_adapter(base, store.path("adapters", "sql"), 1)
    wardrobe, got = Wardrobe(base, store), list[Adapter]()
    start = threading.Barrier(8)

    def client() -> None:
        start.wait(30)
        got.append(wardrobe.wear([Part("sql")])[0][0])

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 8 and len({id(adapter) for adapter in got}) == 1
