"""A folder's tokenizer, written as GGUF keys and read back, gives the folder's ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_gguf
from nomoat.core.errors import BadHeader, UnsupportedType
from nomoat.export.gguf_tokenizer import vocabulary_keys
from nomoat.formats.llama2c import read_tokenizer
from nomoat.model import tokenizer
from nomoat.model.pretokenizers import KINDS
from nomoat.model.tokenizer import Tokenizer
from text_lines import lines

STORIES = Path(__file__).parents[2] / "golden" / "stories260k" / "tok512.bin"
BYTE_LEVEL = tiny_gguf.byte_level_keys(lines(600, seed=1), "gpt-2", size=600)


def folder_of(words: Tokenizer, folder: Path, **settings: Any) -> Path:
    words.save_json(folder / "tokenizer.json")
    named = {"bos_token": words.text_of(words.bos_id), "eos_token": words.text_of(words.eos_id)}
    if words.unk_id is not None:
        named["unk_token"] = words.text_of(words.unk_id)
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, "add_bos_token": words.adds_bos, **settings}))
    return folder


def there_and_back(folder: Path, rows: int) -> tuple[Tokenizer, Tokenizer, dict[str, Any]]:
    words = tokenizer.from_folder(folder)
    keys = dict(vocabulary_keys(folder, words, rows))
    return words, tokenizer.from_metadata(keys, "test", None), keys


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "smollm", "gpt-4o", "tekken", "deepseek-v3", "falcon"])
def test_byte_level_tokenizers_of_every_kind(pre: str, tmp_path: Path) -> None:
    words = tokenizer.from_metadata(BYTE_LEVEL | {"tokenizer.ggml.pre": pre}, "test", None)
    folder = folder_of(words, tmp_path)
    ours, again, keys = there_and_back(folder, words.vocab_size + 5)
    assert KINDS[keys["tokenizer.ggml.pre"]] == KINDS[pre]
    assert keys["tokenizer.ggml.tokens"][-1] == f"[PAD{words.vocab_size + 4}]"
    assert all(again.encode(line) == ours.encode(line) for line in lines(200, seed=3))
    assert (again.eos_ids, again.bos_id, again.adds_bos) == (ours.eos_ids, ours.bos_id, ours.adds_bos)


@pytest.mark.parametrize("space_first", [True, False])
def test_sentence_piece_tokenizers(space_first: bool, tmp_path: Path) -> None:
    keys = tiny_gguf.sentence_piece_keys(*read_tokenizer(STORIES), space_first=space_first)
    words = tokenizer.from_metadata(keys, "test", None)
    ours, again, found = there_and_back(folder_of(words, tmp_path), words.vocab_size)
    assert found["tokenizer.ggml.model"] == "llama" and found["tokenizer.ggml.add_space_prefix"] == space_first
    assert again.eos_ids == ours.eos_ids and again.unk_id == ours.unk_id
    assert all(again.encode(line) == ours.encode(line) for line in lines(200, seed=3))


def test_an_end_of_turn_that_no_runtime_knows_by_name_gets_a_key(tmp_path: Path) -> None:
    keys = dict(BYTE_LEVEL)
    keys["tokenizer.ggml.tokens"] = [*keys["tokenizer.ggml.tokens"], "[DONE]"]
    keys["tokenizer.ggml.token_type"] = [*keys["tokenizer.ggml.token_type"], 3]
    folder = folder_of(tokenizer.from_metadata(keys, "test", None), tmp_path)
    done = len(keys["tokenizer.ggml.tokens"]) - 1
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, done]}))
    ours, again, found = there_and_back(folder, done + 1)
    assert found["tokenizer.ggml.eot_token_id"] == done and done in ours.eos_ids
    assert again.eos_ids == ours.eos_ids


def test_what_gguf_has_no_word_for_is_refused(tmp_path: Path) -> None:
    words = tokenizer.from_metadata(BYTE_LEVEL, "test", None)
    folder = folder_of(words, tmp_path)
    with pytest.raises(BadHeader, match="for 10 rows"):
        there_and_back(folder, 10)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-m]+"
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedType, match="no name for") as refused:
        there_and_back(folder, words.vocab_size)
    assert "--to hf" in refused.value.hint
