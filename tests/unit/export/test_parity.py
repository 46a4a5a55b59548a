"""The receipt refuses what would not say what was trained, and names the first token, or the figure, that differs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from adapters import strong_adapter
from nomoat.core.errors import ParityMismatch
from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.engine.names import Worn
from nomoat.export.checked_rows import CheckedRows, rows_to_check
from nomoat.export.gguf_lora_read import read_lora
from nomoat.export.options import ExportOptions
from nomoat.export.parity import Exported, Receipt, check_parity
from nomoat.export.write import Export, write_gguf_lora, write_gguf_model, write_ollama
from nomoat.formats.gguf import GgufFile
from nomoat.formats.gguf_write import PlannedTensor, Value, write_gguf
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base, load_base
from tiny import CHATML, tiny_folder

END = "[END]"  # a name that no runtime knows by itself


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base that begins with BOS and ends turns with a token of its own."""
    folder = tiny_folder(tmp_path_factory.mktemp("parity") / "base", merges=[("a", "b")])
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"chat_template": "{{ bos_token }}" + CHATML, "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace("<|im_end|>", END))
    return load_base(folder, name="tiny")


@pytest.fixture(scope="module")
def worn(base: Base) -> Worn:
    return ((strong_adapter(base, AdapterConfig(rank=8, alpha=8.0, use_rslora=True)), 1.0),)


def rows(base: Base, worn: Worn) -> CheckedRows:
    return rows_to_check(Store(), base, worn, "", 6)


def options(to: str = "gguf", type: str = "F32", *, llama_cpp: bool = False) -> ExportOptions:
    return ExportOptions(model="x", to=to, type=type, out="x", llama_cpp=llama_cpp)


def export(base: Base, worn: Worn, asked: ExportOptions) -> Export:
    return Export(base, worn, asked, "tiny", {})


def receipt(base: Base, worn: Worn, exported: Exported, *, llama_cpp: bool = False) -> Receipt:
    return returned(check_parity((base, worn), exported, rows(base, worn), options(llama_cpp=llama_cpp)))


def rewritten(path: Path, changes: dict[str, Value]) -> Path:
    """The file with other metadata."""
    file = GgufFile.open(path)
    tensors = [
        PlannedTensor(name, file.type(name), file.shape(name), lambda name=name: [file.data(name)])  # type: ignore[misc]
        for name in file.names()
    ]
    kept: dict[str, Value] = {key: file.stored_value(key) for key in file.metadata}
    write_gguf(path.with_name("changed.gguf"), kept | changes, tensors)
    return path.with_name("changed.gguf")


def tampered(base: Base, worn: Worn, folder: Path, changes: dict[str, Value]) -> Exported:
    exported = returned(write_gguf_model(export(base, worn, options()), folder))
    assert exported.model is not None
    other = load_base(rewritten(exported.model, changes))
    runtime = dataclasses.replace(exported.runtime, tokenizer=other.tokenizer, template=other.template)
    return dataclasses.replace(exported, base=other, runtime=runtime)


def test_an_honest_export_gets_its_receipt(base: Base, worn: Worn, tmp_path: Path) -> None:
    exported = returned(write_ollama(export(base, worn, options("ollama", "F32")), tmp_path))
    found = receipt(base, worn, exported, llama_cpp=True)
    assert found.tokens is not None and found.tokens.ways == ("training", "file", "ollama")
    assert found.damage.kl < 1e-6 and found.damage.agreement == 1.0
    assert found.llama_cpp is not None and found.llama_cpp.kl < 1e-3
    json.dumps(found.as_json())


def test_bos_twice_is_refused(base: Base, worn: Worn, tmp_path: Path) -> None:
    exported = returned(write_ollama(export(base, worn, options("ollama", "F32")), tmp_path))
    template = exported.runtime.ollama
    assert template is not None and "<|endoftext|>" not in template.source
    doubled = dataclasses.replace(template, source='{{ "<|endoftext|>" }}' + template.source)
    exported = dataclasses.replace(exported, runtime=dataclasses.replace(exported.runtime, ollama=doubled))
    with pytest.raises(ParityMismatch, match=r"conversation 1: token 1 is 1 .* and 0 .*Ollama template \(BOS twice\)"):
        receipt(base, worn, exported)


def test_a_wrong_stop_id_is_refused(base: Base, worn: Worn, tmp_path: Path) -> None:
    exported = tampered(base, worn, tmp_path, {"tokenizer.ggml.eos_token_id": 5})
    with pytest.raises(ParityMismatch, match=r"ends with token 2 '\[END\]', at which the exported file does not stop"):
        receipt(base, worn, exported)


def test_a_stop_that_the_modelfile_misses_is_refused(base: Base, worn: Worn, tmp_path: Path) -> None:
    exported = returned(write_ollama(export(base, worn, options("ollama", "F32")), tmp_path))
    missing = dataclasses.replace(exported.runtime, stops=("<|endoftext|>",))
    with pytest.raises(ParityMismatch, match="no stop of the Modelfile"):
        receipt(base, worn, dataclasses.replace(exported, runtime=missing))


def test_a_swapped_template_is_refused_with_the_first_token_that_differs(
    base: Base, worn: Worn, tmp_path: Path
) -> None:
    swapped = base.template.source.replace("<|im_start|>assistant", "<|im_start|>model")
    exported = tampered(base, worn, tmp_path, {"tokenizer.chat_template": swapped})
    with pytest.raises(ParityMismatch, match=r"token \d+ is \d+ 'a' in training and \d+ 'm' through the file"):
        receipt(base, worn, exported)


@pytest.mark.parametrize("llama_cpp", [False, True])
def test_a_mis_scaled_rslora_is_refused(base: Base, worn: Worn, tmp_path: Path, llama_cpp: bool) -> None:
    """As a converter writes it that takes alpha over rank for alpha over its root."""
    returned(write_gguf_model(export(base, (), options()), tmp_path))
    of_file = load_base(tmp_path / "model.gguf", name="tiny")
    written = returned(write_gguf_lora(export(of_file, worn, options("gguf-lora")), tmp_path))
    assert receipt(of_file, worn, written, llama_cpp=llama_cpp).damage.agreement == 1.0
    assert written.lora is not None
    alpha: Any = GgufFile.open(written.lora).metadata["adapter.lora.alpha"]
    wrong = rewritten(written.lora, {"adapter.lora.alpha": alpha / 8**0.5})
    with pytest.raises(ParityMismatch, match="is not what was trained: KL"):
        receipt(of_file, worn, dataclasses.replace(written, stack=((read_lora(wrong, of_file), 1.0),)))
    if llama_cpp:
        with pytest.raises(ParityMismatch, match=r"llama.cpp does not say what was trained"):
            receipt(of_file, worn, dataclasses.replace(written, lora=wrong), llama_cpp=True)


def test_a_file_that_llama_cpp_cannot_load_is_refused(base: Base, worn: Worn, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    exported = returned(write_gguf_model(export(base, worn, options()), tmp_path))
    broken = rewritten(tmp_path / "model.gguf", {"llama.attention.head_count_kv": 3})
    with pytest.raises(ParityMismatch, match=r"llama.cpp does not load changed.gguf"):
        receipt(base, worn, dataclasses.replace(exported, model=broken), llama_cpp=True)
