"""The tokenizer files of a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from nomoat.core.errors import BadHeader, FormatError, UnsupportedType
from nomoat.model.gguf_vocabulary import TURN_ENDS
from nomoat.model.token_bytes import TokenBytes, byte_level, sentence_piece

MAX_SETTINGS_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class FolderTokenizer:
    """``named``: "bos", "eos", "pad", "unk" -> id. ``ends``: further end-of-sequence ids that files name."""

    backend: Backend
    control: dict[str, int]
    named: dict[str, int]
    ends: frozenset[int]
    adds_bos: bool
    token_bytes: TokenBytes


def read_folder(folder: Path) -> FolderTokenizer:
    """Read ``tokenizer.json`` and the settings beside it. Raises ``FormatError`` and its kin."""
    backend = _backend(folder)
    settings = read_settings(folder / "special_tokens_map.json") | read_settings(folder / "tokenizer_config.json")
    named = _named(backend, settings, folder)
    adds_bos = _adds_bos(backend, settings, named.get("bos"))
    backend.post_processor = None
    control, raw = _added(backend)
    for i in named.values():
        control.setdefault(str(backend.id_to_token(i)), i)
    return FolderTokenizer(
        backend=backend,
        control=control,
        named=named,
        ends=frozenset(_ends(folder, backend.get_vocab_size())),
        adds_bos=adds_bos,
        token_bytes=_token_bytes(backend, raw, set(control), folder),
    )


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file."""
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise BadHeader(f"larger than the {MAX_SETTINGS_BYTES} bytes allowed", file=path)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"not valid JSON: {error}", file=path, hint="download the folder again") from error
    if not isinstance(value, dict):
        raise BadHeader("not a JSON object", file=path, hint="download the folder again")
    return value


def _backend(folder: Path) -> Backend:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FormatError(
            "tokenizer.json is missing"
            + (" (tokenizer.model alone is not read)" if (folder / "tokenizer.model").exists() else ""),
            file=folder,
            hint="write one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise BadHeader(f"not a tokenizer: {error}", file=path, hint="download the folder again") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _named(backend: Backend, settings: dict[str, Any], folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in ("bos", "eos", "pad", "unk"):
        value = settings.get(f"{name}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if text is None:
            continue
        token = backend.token_to_id(text) if isinstance(text, str) else None
        if token is not None:
            found[name] = token
        elif name == "eos":
            raise BadHeader(f"eos_token {text!r} is not in the vocabulary", file=folder)
    return found


def _adds_bos(backend: Backend, settings: dict[str, Any], bos: int | None) -> bool:
    said = settings.get("add_bos_token")
    if isinstance(said, bool):
        return said and bos is not None
    return bos is not None and backend.encode("", add_special_tokens=True).ids[:1] == [bos]


def _added(backend: Backend) -> tuple[dict[str, int], set[str]]:
    """Control tokens, and the text of every added token."""
    added: dict[int, AddedToken] = backend.get_added_tokens_decoder()
    ends = [
        AddedToken(token.content, special=True, normalized=token.normalized)
        for token in added.values()
        if token.content in TURN_ENDS and not token.special
    ]
    backend.add_special_tokens(ends)
    control = {token.content: i for i, token in added.items() if token.special or token.content in TURN_ENDS}
    return control, {token.content for token in added.values()}


def _ends(folder: Path, vocab_size: int) -> Iterator[int]:
    for name in ("generation_config.json", "config.json"):
        settings = read_settings(folder / name)
        inner = settings.get("text_config")
        for part in (settings, inner if isinstance(inner, dict) else {}):
            value = part.get("eos_token_id")
            for token in value if isinstance(value, list) else [value]:
                if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < vocab_size:
                    yield token


def _token_bytes(backend: Backend, added: set[str], control: set[str], folder: Path) -> TokenBytes:
    """From the decoder's own description. SentencePiece's added tokens still write ``▁`` for a space."""
    decoder = backend.decoder
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    steps = state.get("decoders", [state])
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return byte_level(added)
    if "Metaspace" in kinds:
        return sentence_piece(control, space_first=any(step.get("prepend_scheme") != "never" for step in steps))
    if "ByteFallback" in kinds:
        return sentence_piece(control, space_first="Strip" in kinds)
    raise UnsupportedType(
        f"a tokenizer whose decoder is {' + '.join(sorted(map(str, kinds)))}, not byte-level or SentencePiece",
        file=folder / "tokenizer.json",
    )
