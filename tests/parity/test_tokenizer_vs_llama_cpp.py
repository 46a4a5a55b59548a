"""Our token ids against llama.cpp's. Where the two differ on purpose, the line is left out and the reason given."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import models
import tiny_gguf
from llama_cpp_tokens import llama_cpp_tokens
from nomoat.formats.gguf import GgufFile
from nomoat.formats.llama2c import read_tokenizer
from nomoat.model import tokenizer
from nomoat.model.pretokenizers import KINDS, PreTokenizer
from text_lines import lines, shared_lines

LINES = 20_000
STORIES = Path(__file__).parents[1] / "golden" / "stories260k" / "tok512.bin"


def nfc(line: str) -> str:
    return unicodedata.normalize("NFC", line)


def ids_differ(model: Path, texts: list[str], *, specials: bool = True) -> list[str]:
    """The texts whose ids differ, each with both."""
    ours = tokenizer.from_gguf(GgufFile.open(model), None)
    theirs = llama_cpp_tokens(model, texts, vocab_size=ours.vocab_size, specials=specials)
    found = ((text, ours.encode(text, specials=specials), ids) for text, ids in zip(texts, theirs, strict=True))
    return [f"{text!r}: {a} not {b}" for text, a, b in found if a != b]


@pytest.mark.real
def test_smollm2_gives_the_ids_of_llama_cpp() -> None:
    assert ids_differ(models.path("smollm2"), lines(LINES) + shared_lines(40)) == []


@pytest.mark.real
def test_qwen_gives_the_ids_of_llama_cpp_on_normalized_text() -> None:
    # llama.cpp does not normalize to NFC as Qwen's own tokenizer does, and takes the ordinary "</s>" for a special
    texts = [nfc(line).replace("</s>", "") for line in lines(LINES) + shared_lines(40)]
    assert ids_differ(models.path("qwen05"), texts) == []


@pytest.mark.real
def test_gemma_gives_the_ids_of_llama_cpp() -> None:
    assert ids_differ(models.path("gemma3"), lines(LINES)) == []


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "qwen05", "gemma3"])
def test_special_tokens_in_plain_text_are_read_as_llama_cpp_reads_them(name: str) -> None:
    # "</s>" is an HTML tag to Gemma and five letters to Qwen; llama.cpp takes it for a control token
    texts = [nfc(line).replace("</s>", "") for line in lines(3000, seed=5)]
    assert ids_differ(models.path(name), texts, specials=False) == []


def distinct_kinds() -> list[str]:
    """One name for each pre-tokenizer of the table."""
    names: dict[PreTokenizer, str] = {}
    for name, kind in KINDS.items():
        names.setdefault(kind, name)
    return [name or "default" for name in names.values()]


def has_mark_or_cased_letter(text: str) -> bool:
    return any(unicodedata.category(c)[0] == "M" or (not c.isascii() and c.lower() != c.upper()) for c in text)


def has_wide_blank(text: str) -> bool:
    return any(c.isspace() and not c.isascii() for c in text)


# What llama.cpp gets wrong, kind by kind: it has no \p{Lu}, \p{M} (by design, to spare its regex engine); \s and
# wide blanks of its std::wregex patterns are all one control character; its \d is ASCII only.
LLAMA_CPP_DIFFERS: dict[str, Callable[[str], bool]] = {
    "gpt-4o": has_mark_or_cased_letter,
    "tekken": has_mark_or_cased_letter,
    "deepseek-llm": has_wide_blank,
    "deepseek-coder": has_wide_blank,
    "superbpe": lambda text: any(c.isdigit() and not c.isascii() for c in text),
}


@pytest.fixture(scope="module")
def learned() -> dict[str, Any]:
    return tiny_gguf.byte_level_keys(lines(3000, seed=1), "default")


@pytest.mark.parametrize("kind", distinct_kinds())
def test_each_pre_tokenizer_cuts_as_llama_cpp_does(kind: str, learned: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_gguf.write(tmp_path / "tiny.gguf", learned | {"tokenizer.ggml.pre": kind})
    differs = LLAMA_CPP_DIFFERS.get(kind, lambda text: False)
    texts = [nfc(line) if KINDS[kind].nfc else line for line in lines(1200, seed=3)]
    kept = [text for text in texts if not differs(text)]
    assert len(kept) > 500
    assert ids_differ(model, kept) == []


@pytest.mark.parametrize("space_first", [True, False])
def test_sentence_piece_gives_the_ids_of_llama_cpp(space_first: bool, tmp_path: Path) -> None:
    pieces, scores = read_tokenizer(STORIES)
    keys = tiny_gguf.sentence_piece_keys(pieces, scores, space_first=space_first)
    # llama.cpp reads "<0xFF>" in a text as the byte, the original as six letters
    texts = [line.replace("<0x", "") for line in lines(LINES)]
    assert ids_differ(tiny_gguf.write(tmp_path / "tiny.gguf", keys), texts) == []
