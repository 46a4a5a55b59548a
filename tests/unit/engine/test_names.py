"""A stack is a model name: what the words mean, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nomoat.core.errors import AdapterMismatch, FormatError, NotFound, UsageError
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.engine.names import (
    ModelName,
    Part,
    missing_under,
    open_stack,
    parse_adapters,
    parse_name,
    worn_folders,
)
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from tiny import tiny_base, tiny_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smol", ModelName("smol", None, ())),
        ("smol+chat:0.8+sql", ModelName("smol", None, (Part("chat", 0.8), Part("sql", 1.0)))),
        (" smol + sql:-1 ", ModelName("smol", None, (Part("sql", -1.0),))),
        ("scribe:0.5", ModelName("scribe", 0.5, ())),
        ("./m.Q4_K_M.gguf+./a/b:2", ModelName("./m.Q4_K_M.gguf", None, (Part("./a/b", 2.0),))),
        ("C:\\m.gguf+C:\\sql:0.5", ModelName("C:\\m.gguf", None, (Part("C:\\sql", 0.5),))),
    ],
)
def test_a_name_is_taken_apart(text: str, expected: ModelName) -> None:
    assert parse_name(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no model"),
        ("+sql", "names no model"),
        ("smol+", "no adapter after it"),
        ("smol++sql", "no adapter after it"),
        ("smol+sql:much", "'much' of 'sql' is not a number"),
        ("smol+sql:nan", "cannot be nan"),
        ("smol+sql:inf", "cannot be inf"),
        ("smol+sql:", "is not a number"),
        ("smol+sql+sql:2", "'sql' twice"),
    ],
)
def test_a_bad_name_is_refused_with_the_part_that_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_name(text)


def test_adapters_without_a_base_are_read_the_same_way() -> None:
    assert parse_adapters("chat:0.8+sql") == (Part("chat", 0.8), Part("sql"))
    assert parse_adapters("  ") == ()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A home with the base ``tiny``, and the adapters ``one`` and ``two`` trained on it."""
    store = Store()
    base = tiny_base(tiny_folder(store.path("bases", "tiny")))
    for name, seed in (("one", 1), ("two", 2)):
        with store.writing("adapters", name) as folder:
            save_adapter(base.new_adapter(AdapterConfig(rank=2, alpha=4), seed=seed, name=name), folder)
            write_lineage(folder, Lineage("adapters", name, parents=(Parent("bases", "tiny", ""),)))
    return store


def test_a_base_alone_wears_nothing(store: Store) -> None:
    base, stack = open_stack(store, "tiny")
    assert (base.name, stack) == ("tiny", ())


def test_a_stack_opens_with_its_weights_in_order(store: Store) -> None:
    _, stack = open_stack(store, "tiny+two:0.5+one")
    assert [(adapter.name, weight) for adapter, weight in stack] == [("two", 0.5), ("one", 1.0)]


def test_an_adapter_alone_opens_with_the_base_its_lineage_names(store: Store) -> None:
    base, stack = open_stack(store, "one:0.3+two")
    assert base.name == "tiny"
    assert [(adapter.name, weight) for adapter, weight in stack] == [("one", 0.3), ("two", 1.0)]


def test_paths_of_bases_and_adapters_work_as_names_do(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(store.path("adapters", "one"), folder)
    base, stack = open_stack(store, f"{store.path('bases', 'tiny')}+{folder}:2")
    assert base.name == "tiny"
    assert [(adapter.name, weight) for adapter, weight in stack] == [("elsewhere", 2.0)]


def test_a_path_that_exists_may_hold_a_plus_sign(store: Store, tmp_path: Path) -> None:
    base, stack = open_stack(store, str(tiny_folder(tmp_path / "c++" / "model")))
    assert (base.name, stack) == ("model", ())


def test_a_foreign_adapter_opens_with_the_base_its_configuration_names(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(store.path("adapters", "one"), folder, ignore=shutil.ignore_patterns("nomoat.json"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "tiny"}))
    base, stack = open_stack(store, str(folder))
    assert base.name == "tiny" and stack[0][0].name == "foreign"


def test_an_adapter_trained_on_a_file_finds_it_again(store: Store, tmp_path: Path) -> None:
    path = tiny_folder(tmp_path / "file")
    lineage = Lineage("adapters", "one", parents=(Parent("base", "gone", ""),), options={"base": str(path)})
    write_lineage(store.path("adapters", "one"), lineage)
    base, _ = open_stack(store, "one")
    assert base.path == path


def test_an_adapter_whose_base_is_nowhere_names_it_and_what_to_type(store: Store) -> None:
    folder = store.path("adapters", "one")
    write_lineage(folder, Lineage("adapters", "one", parents=(Parent("base", "lost", ""),)))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "org/hub"}))
    with pytest.raises(NotFound, match="trained on 'lost'") as caught:
        open_stack(store, "one")
    assert "BASE+one" in caught.value.hint


def test_an_adapter_that_names_no_base_says_so(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(FormatError, match="which base"):
        open_stack(store, str(folder))


def test_a_base_takes_no_weight(store: Store) -> None:
    with pytest.raises(UsageError, match="is a base and takes no weight"):
        open_stack(store, "tiny:0.5+one")


def test_an_adapter_named_as_head_and_again_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="'one' twice"):
        open_stack(store, "one+one")


def test_unknown_names_come_with_near_matches(store: Store) -> None:
    with pytest.raises(NotFound, match="did you mean tiny"):
        open_stack(store, "tinny")
    with pytest.raises(NotFound, match=r"no base or adapter named 'onee'.*did you mean one"):
        open_stack(store, "onee")
    with pytest.raises(NotFound, match="no adapter named 'thre'"):
        open_stack(store, "tiny+thre")
    with pytest.raises(NotFound, match="not an adapter folder"):
        open_stack(store, "tiny+./nowhere")


def test_a_stack_on_the_wrong_base_is_refused_with_both_names(store: Store) -> None:
    tiny_folder(store.path("bases", "other"), seed=9)
    with pytest.raises(AdapterMismatch, match=r"tiny.*other"):
        open_stack(store, "other+one")


def _without_template(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_a_base_without_a_template_speaks_its_adapters(store: Store) -> None:
    _without_template(store.path("bases", "tiny"))
    (store.path("adapters", "one") / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    base, _ = open_stack(store, "tiny+one")
    assert base.template.render([{"role": "user", "content": "hi"}]) == "hi!"
    assert open_stack(store, "tiny+two")[0].template.kind == "default"


def test_a_base_keeps_its_own_template_whatever_an_adapter_brings(store: Store) -> None:
    (store.path("adapters", "one") / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    assert open_stack(store, "tiny+one")[0].template.kind == "base"


def test_adapters_that_speak_different_templates_do_not_stack(store: Store) -> None:
    _without_template(store.path("bases", "tiny"))
    for name in ("one", "two"):
        (store.path("adapters", name) / "chat_template.jinja").write_text(name)
    with pytest.raises(UsageError, match="'one' and 'two' were trained with different chat templates"):
        open_stack(store, "tiny+one+two")


def _learned_on(store: Store, name: str, on: str) -> None:
    folder = store.path("adapters", name)
    write_lineage(folder, Lineage("adapters", name, parents=(Parent("base", "tiny", ""),), options={"on": on}))


def _worn(store: Store, spec: str) -> list[tuple[str, float]]:
    return [(adapter.name, weight) for adapter, weight in open_stack(store, spec)[1]]


def test_an_adapter_alone_brings_the_stack_it_learned_on_top_of(store: Store) -> None:
    _learned_on(store, "two", "tiny+one:0.8")
    assert _worn(store, "two:0.5") == [("one", 0.8), ("two", 0.5)]
    assert _worn(store, "two+one:0.3") == [("two", 1.0), ("one", 0.3)]
    assert [folder.name for folder in worn_folders(store, "two")] == ["one", "two"]
    assert missing_under(store, "two") == missing_under(store, "tiny+one+two") == ""


def test_who_names_the_base_gets_what_he_names_and_is_told_what_is_missing(store: Store) -> None:
    _learned_on(store, "two", "tiny+one:0.8")
    assert _worn(store, "tiny+two") == [("two", 1.0)]
    assert "learned on top of one, not worn" in missing_under(store, "tiny+two:2")
    assert missing_under(store, "tiny+two:2").endswith("tiny+one:0.8+two:2")


def test_what_an_adapter_learned_on_top_of_may_be_gone(store: Store) -> None:
    _learned_on(store, "two", "tiny+one")
    store.remove("adapters", "one")
    with pytest.raises(NotFound, match="'one' is not here") as caught:
        open_stack(store, "two")
    assert "BASE+two" in caught.value.hint
    assert _worn(store, "tiny+two") == [("two", 1.0)]
    assert "'one' is not here" in missing_under(store, "tiny+two")
