"""The tokenizer of a Hugging Face folder as the ``tokenizer.ggml.*`` keys of a GGUF file.

Keys: docs/gguf.md of the ggml repository. A GGUF file names the way words are cut (``tokenizer.ggml.pre``) and does not
spell it out, so the names are tried: the one that cuts a text of many scripts as the folder's own tokenizer does is
the right one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from nomoat.core.errors import BadHeader, UnsupportedType
from nomoat.formats.gguf_write import Value
from nomoat.model.gguf_vocabulary import BYTE, CONTROL, NORMAL, TURN_ENDS, UNKNOWN, UNUSED, USER_DEFINED
from nomoat.model.pretokenizers import KINDS
from nomoat.model.tokenizer import Tokenizer
from nomoat.model.tokenizer_hf import FolderTokenizer, read_folder, read_settings

_PROBE = (
    "Hello world! It's the year 2024, isn't it?\r\n\r\n  I'LL pay $1,234.56 (20 %) to foo_bar@baz.com…\tdon't\n\n\n"
    "Ünïcödé e\u0301 ſs 東京タワーは333メートル。北京欢迎你！ Привет, мир 서울 2002년 สวัสดี مرحبا ١٢٣ नमस्ते ﬁ 👩‍💻🍂 "
    "x=y**2;//a--b\n"
    "<html> 'quoted' \"text\"   end   \n   1234567 a1b22c333 HTTPServer camelCase  "
)
_COMMON = ("llama-bpe", "qwen2", "smollm", "gpt-2", "gpt-4o", "tekken", "dbrx", "olmo", "command-r")
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_NEVER = -1e9  # the score of a piece that no merge makes


def vocabulary_keys(folder: Path, words: Tokenizer, rows: int) -> dict[str, Value]:
    """The keys for a model with ``rows`` embeddings; rows beyond the vocabulary get unused tokens.

    Raises ``UnsupportedType`` for a tokenizer that GGUF has no name for, ``BadHeader`` for a damaged one.
    """
    read = read_folder(folder)
    model = read_settings(folder / "tokenizer.json").get("model")
    if not isinstance(model, Mapping) or model.get("type") != "BPE":
        raise UnsupportedType("a tokenizer that is not BPE cannot be written to GGUF", file=folder / "tokenizer.json")
    tokens = _tokens(read.backend, rows, folder)
    byte_level = not model.get("byte_fallback")
    keys: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2" if byte_level else "llama",
        "tokenizer.ggml.pre": _pre(read.backend, model, folder) if byte_level else "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": _types(tokens, read, words),
    }
    if byte_level:
        keys["tokenizer.ggml.merges"] = [" ".join(pair) for pair in _merges(model)]
    else:
        keys["tokenizer.ggml.scores"] = _scores(tokens, model)
        keys["tokenizer.ggml.add_space_prefix"] = read.token_bytes.space_first
    return keys | _roles(words)


def _tokens(backend: Backend, rows: int, folder: Path) -> list[str]:
    by_id = {i: token for token, i in backend.get_vocab(with_added_tokens=True).items()}
    if max(by_id) >= rows:
        raise BadHeader(f"has a token {max(by_id)} for {rows} rows of embeddings", file=folder / "tokenizer.json")
    return [by_id.get(i, f"[PAD{i}]") for i in range(rows)]


def _types(tokens: list[str], read: FolderTokenizer, words: Tokenizer) -> list[int]:
    added = read.backend.get_added_tokens_decoder()
    return [_type(token, i, i in added, read, words) for i, token in enumerate(tokens)]


def _type(token: str, i: int, is_added: bool, read: FolderTokenizer, words: Tokenizer) -> int:
    if i == words.unk_id:
        return UNKNOWN
    if token in words.specials:
        return CONTROL
    if is_added:
        return USER_DEFINED
    if _BYTE_PIECE.fullmatch(token):
        return BYTE
    return NORMAL if read.backend.id_to_token(i) is not None else UNUSED


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for merge in model.get("merges") or ():
        first, _, second = merge.partition(" ") if isinstance(merge, str) else (merge[0], "", merge[1])
        pairs.append((first, second))
    return pairs


def _scores(tokens: list[str], model: Mapping[str, Any]) -> list[float]:
    """SentencePiece joins the neighbours whose piece scores best: so the earlier a merge, the higher its piece."""
    place: dict[str, int] = {}
    for number, (first, second) in enumerate(_merges(model), start=1):
        place.setdefault(first + second, number)
    return [float(-place[token]) if token in place else (_NEVER if len(token) > 1 else 0.0) for token in tokens]


def _pre(backend: Backend, model: Mapping[str, Any], folder: Path) -> str:
    whole_words = bool(model.get("ignore_merges"))
    wanted = _cut(backend.normalizer, backend.pre_tokenizer)
    for name in (*_COMMON, *(name for name in KINDS if name and name not in _COMMON)):
        kind = KINDS[name]
        if kind.whole_words == whole_words and _cut(kind.normalizer(), kind.splitter()) == wanted:
            return name
    raise UnsupportedType(
        "cuts words in a way that GGUF has no name for",
        file=folder / "tokenizer.json",
        hint="serve the folder with nomoat serve, or export --to hf",
    )


def _cut(normalizer: Any, splitter: Any) -> list[str]:
    text = normalizer.normalize_str(_PROBE) if normalizer is not None else _PROBE
    return [piece for piece, _ in splitter.pre_tokenize_str(text)] if splitter is not None else [text]


def _roles(words: Tokenizer) -> dict[str, Value]:
    """Ids with a role. Turn ends with well-known names are found by name; others need a key."""
    keys: dict[str, Value] = {"tokenizer.ggml.add_bos_token": words.adds_bos}
    for role, token in (("bos", words.bos_id), ("eos", words.eos_id), ("unknown", words.unk_id)):
        if token is not None:
            keys[f"tokenizer.ggml.{role}_token_id"] = token
    if words.pad_id is not None:
        keys["tokenizer.ggml.padding_token_id"] = words.pad_id
    others = sorted(words.eos_ids - {words.eos_id})
    unnamed = [token for token in others if words.text_of(token) not in TURN_ENDS]
    for role, token in zip(("eot", "eom"), unnamed):
        keys[f"tokenizer.ggml.{role}_token_id"] = token
    return keys
