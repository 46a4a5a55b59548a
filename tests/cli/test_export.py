"""``nomoat export``: every target from a small base, with its receipt; what is refused leaves nothing behind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import strong_adapter
from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store, read_lineage
from nomoat.formats.gguf import GgufFile
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base, load_base
from tiny import tiny_folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, ``plain`` and ``rs``, and rows."""
    home = tmp_path_factory.mktemp("export")
    folder = tiny_folder(home / "base", "qwen2", merges=[("a", "b")])
    base = load_base(folder)
    for name, config in (
        ("plain", AdapterConfig(rank=4, alpha=8.0)),
        ("rs", AdapterConfig(rank=8, alpha=8.0, use_rslora=True)),
        ("dora", AdapterConfig(rank=2, alpha=4.0, use_dora=True)),
    ):
        (home / name).mkdir()
        save_adapter(strong_adapter(base, config, seed=len(name)), home / name)
    rows = [{"prompt": f"What is {i} + {i}?", "completion": f"It is {2 * i}."} for i in range(6)]
    (home / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return home


def run(models: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the last record, and all of stderr."""
    out, err = io.StringIO(), io.StringIO()
    env = Environment(store=Store(models / "home"), stdout=out, stderr=err)
    code = main(["export", *words, "--rows", str(models / "rows.jsonl"), "--json"], env)
    return code, json.loads(out.getvalue().splitlines()[-1]), err.getvalue()


def spec(models: Path, stack: str) -> str:
    return "+".join([str(models / "base"), *(f"{models}/{part}" for part in stack.split("+"))])


def logits(base: Base, stack: Stack = EMPTY) -> torch.Tensor:
    tokens = base.tokenizer.encode("<|im_start|>user\nWhat is 3 + 3?<|im_end|>\n<|im_start|>assistant\n")
    with torch.no_grad():
        return base.decoder.logits(base.decoder(torch.tensor(tokens), Layout([len(tokens)]), stack), stack)


def trained(models: Path, *stack: tuple[str, float]) -> torch.Tensor:
    base = load_base(models / "base")
    return logits(base, tuple((base.load_adapter(models / name), weight) for name, weight in stack))


def test_a_stack_becomes_a_model_in_the_store_that_chats_like_it(models: Path) -> None:
    code, done, err = run(models, spec(models, "plain+rs:0.5"), "--to", "gguf", "--type", "F32", "--name", "both")
    assert code == 0, err
    again = load_base(models / "home/models/both/model.gguf")
    torch.testing.assert_close(logits(again), trained(models, ("plain", 1.0), ("rs", 0.5)), atol=1e-4, rtol=1e-4)
    lineage = read_lineage(models / "home/models/both")
    assert lineage is not None and lineage.details["receipt"]["damage"] == done["result"]["damage"]
    assert [parent.name for parent in lineage.parents] == ["base", "plain", "rs"]
    assert done["result"]["tokens"]["ways"] == ["training", "file"] and done["result"]["tokens"]["conversations"] == 6
    assert done["result"]["llama_cpp"]["prompts"] == 6 and done["result"]["llama_cpp"]["kl"] < 1e-3


def test_a_stack_with_a_dora_becomes_one_dora_for_peft(models: Path, tmp_path: Path) -> None:
    code, _, err = run(models, spec(models, "dora:0.5+plain"), "--to", "peft", "--out", str(tmp_path / "out"))
    assert code == 0, err
    base = load_base(models / "base")
    one = base.load_adapter(tmp_path / "out")
    assert one.config.use_dora
    expected = trained(models, ("dora", 0.5), ("plain", 1.0))
    torch.testing.assert_close(logits(base, ((one, 1.0),)), expected, atol=1e-4, rtol=1e-4)


def test_a_dora_folds_into_a_model(models: Path, tmp_path: Path) -> None:
    code, _, err = run(models, spec(models, "dora:0.5+rs"), "--type", "Q8_0", "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert GgufFile.open(tmp_path / "out/model.gguf").type("blk.0.attn_q.weight") == "Q8_0"


@pytest.mark.parametrize("type", ["", "BF16"])
def test_a_merged_folder_is_what_base_and_stack_were(models: Path, tmp_path: Path, type: str) -> None:
    words = ["--type", type] if type else []
    code, done, err = run(models, spec(models, "dora+plain:0.5"), "--to", "hf", *words, "--out", str(tmp_path / "out"))
    assert code == 0, err
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokens = load_base(models / "base").tokenizer.encode("What is 3 + 3?")
    assert type or torch.allclose(
        model(torch.tensor([tokens])).logits[0],
        stack_logits(models, tokens, ("dora", 1.0), ("plain", 0.5)),
        atol=1e-4,
        rtol=1e-4,
    )
    assert done["result"]["type"] == (type or "F32")


def stack_logits(models: Path, tokens: list[int], *stack: tuple[str, float]) -> torch.Tensor:
    base = load_base(models / "base")
    worn = tuple((base.load_adapter(models / name), weight) for name, weight in stack)
    with torch.no_grad():
        return base.decoder.logits(base.decoder(torch.tensor(tokens), Layout([len(tokens)]), worn), worn)


def test_a_stack_becomes_one_peft_adapter(models: Path) -> None:
    code, done, err = run(models, spec(models, "plain:0.5+rs:-1"), "--to", "peft", "--name", "one")
    assert code == 0, err
    base = load_base(models / "base")
    one = base.load_adapter(models / "home/adapters/one")
    torch.testing.assert_close(
        logits(base, ((one, 1.0),)), trained(models, ("plain", 0.5), ("rs", -1.0)), atol=1e-4, rtol=1e-4
    )
    assert done["result"]["damage"]["agreement"] == 1.0


def test_a_modelfile_for_ollama_with_the_model_beside_it(models: Path, tmp_path: Path) -> None:
    code, done, err = run(
        models, spec(models, "rs"), "--to", "ollama", "--type", "Q8_0", "--out", str(tmp_path / "out")
    )
    assert code == 0, err
    text = (tmp_path / "out/Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n") and 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER num_ctx 512\n" in text and "<|im_start|>assistant\\n" in text
    assert done["result"]["tokens"]["ways"] == ["training", "file", "ollama"]


def test_a_gguf_base_keeps_its_blocks_beside_a_lora_for_ollama(models: Path, tmp_path: Path) -> None:
    assert run(models, str(models / "base"), "--type", "F16", "--out", str(tmp_path / "g"))[0] == 0
    stack = f"{tmp_path}/g/model.gguf+{models}/rs"
    code, done, err = run(models, stack, "--to", "ollama", "--out", str(tmp_path / "o"))
    assert code == 0, err
    text = (tmp_path / "o/Modelfile").read_text()
    assert text.startswith(f"FROM {tmp_path}/g/model.gguf\nADAPTER ./adapter.gguf\n")
    assert done["result"]["llama_cpp"]["agreement"] == 1.0
    code, _, err = run(models, stack, "--to", "gguf-lora", "--out", str(tmp_path / "l"))
    assert code == 0 and (tmp_path / "l/adapter.gguf").is_file(), err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--to", "gguf-lora", "--out", "X"], 2, "DoRA"),
        (["--to", "gguf-lora", "--name", "x"], 2, "no place"),
        (["--to", "gguf"], 2, "say where"),
        (["--to", "gguf", "--type", "Q9", "--out", "X"], 2, "--type Q9"),
        (["--to", "gguf", "--type", "Q4_0", "--max-kl", "1e-9", "--out", "X"], 11, "KL"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    models: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    words = [str(tmp_path / "x") if word == "X" else word for word in words]
    got, error, _ = run(models, spec(models, "dora"), *words)
    assert (got, error["record"]) == (code, "error") and message in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_an_export_never_overwrites_unasked(models: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    words = [spec(models, "plain"), "--to", "peft", "--out", str(tmp_path / "out")]
    assert run(models, *words)[0] == 2
    assert run(models, *words, "--replace")[0] == 0
