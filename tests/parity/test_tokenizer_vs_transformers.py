"""Our token ids against the tokenizer classes of transformers, given the same vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import models
import tiny_gguf
from nomoat.formats.gguf import GgufFile
from nomoat.formats.llama2c import read_tokenizer
from nomoat.model import tokenizer
from text_lines import lines, shared_lines

LINES = 20_000
STORIES = Path(__file__).parents[1] / "golden" / "stories260k" / "tok512.bin"


def tokens_and_merges(keys: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocab = {token: i for i, token in enumerate(keys["tokenizer.ggml.tokens"])}
    pairs = [line.split(" ") for line in keys["tokenizer.ggml.merges"]]
    return vocab, [(left, right) for left, right in pairs]


def splits(pieces: dict[str, int], order: list[str]) -> list[tuple[str, str]]:
    """Merges the way transformers makes them from SentencePiece: every split of every piece."""
    return [
        (piece[:cut], piece[cut:])
        for piece in order
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]


def ids_differ(ours: tokenizer.Tokenizer, reference: Any, texts: list[str]) -> list[str]:
    theirs = reference(texts, add_special_tokens=False)["input_ids"]
    found = ((text, ours.encode(text), ids) for text, ids in zip(texts, theirs, strict=True))
    return [f"{text!r}: {a} not {b}" for text, a, b in found if a != b]


@pytest.mark.real
def test_qwen_gives_the_ids_of_transformers_normalization_included() -> None:
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    file = GgufFile.open(models.path("qwen05"))
    ours = tokenizer.from_gguf(file, None)
    vocab, merges = tokens_and_merges(file.metadata)
    reference = Qwen2Tokenizer(vocab=vocab, merges=merges)
    reference.add_tokens([AddedToken(t, special=True, normalized=False) for t in ours.specials], special_tokens=True)
    reference.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>")])
    assert ids_differ(ours, reference, lines(LINES) + shared_lines(40)) == []


@pytest.mark.real
def test_gemma_gives_the_ids_of_transformers() -> None:
    from tokenizers import AddedToken
    from transformers import GemmaTokenizer

    file = GgufFile.open(models.path("gemma3"))
    ours = tokenizer.from_gguf(file, None)
    tokens = [token.replace(" ", "▁") for token in file.metadata["tokenizer.ggml.tokens"]]
    types = file.metadata["tokenizer.ggml.token_type"]
    joining = {token: i for i, token in enumerate(tokens) if types[i] in (1, 4)}
    reference = GemmaTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=splits(joining, list(joining))
    )
    reference.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ours.specials], special_tokens=True
    )
    reference.add_tokens([AddedToken(tokens[i], normalized=False) for i in range(len(tokens)) if types[i] == 4])
    # Known differences: runs of more than 31 spaces, where SentencePiece and llama.cpp agree with us; and a literal
    # "▁" beside blanks: a GGUF file writes the pieces of several blanks with spaces, so a "▁" in one is lost
    texts = [line.replace("▁", "") for line in lines(LINES) + shared_lines(20)]
    texts = [text for text in texts if " " * 32 not in text]
    assert ids_differ(ours, reference, texts) == []


@pytest.mark.parametrize("kind", ["gpt-2", "olmo", "command-r", "qwen2"])
def test_byte_level_kinds_give_the_ids_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import CohereTokenizer, GPT2Tokenizer, GPTNeoXTokenizer, Qwen2Tokenizer

    classes = {
        "gpt-2": GPT2Tokenizer,
        "olmo": GPTNeoXTokenizer,
        "command-r": CohereTokenizer,
        "qwen2": Qwen2Tokenizer,
    }
    keys = tiny_gguf.byte_level_keys(lines(3000, seed=1), kind)
    vocab, merges = tokens_and_merges(keys)
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    if kind == "command-r":
        named |= dict.fromkeys(("cls_token", "sep_token", "mask_token"), "<|endoftext|>")
    reference = classes[kind](vocab=vocab, merges=merges, **named)
    reference.add_tokens(tiny_gguf.SPECIALS, special_tokens=True)
    assert ids_differ(tokenizer.from_metadata(keys, "test", None), reference, lines(LINES, seed=2)) == []


def test_sentence_piece_gives_the_ids_of_transformers() -> None:
    from transformers import LlamaTokenizer

    pieces, scores = read_tokenizer(STORIES)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    reference = LlamaTokenizer(vocab=vocab, merges=splits(vocab, pieces[259:]), legacy=True)
    # transformers puts no second space in front of a text that begins with one; SentencePiece does
    texts = [line.replace("<s>", "").replace("</s>", "").replace("<unk>", "").lstrip(" ▁") for line in lines(LINES)]
    assert ids_differ(tokenizer.from_pieces(pieces, scores, "test"), reference, texts) == []
