"""Text to token ids and back, the same for a GGUF file and a Hugging Face folder.

``encode`` never adds BOS or EOS; the chat template, or whoever builds a plain text, does. Where llama.cpp and the
model's own (Hugging Face) tokenizer disagree, the model's own holds:

- Unicode normalization: Qwen, Command-R, OLMo and others normalize to NFC, llama.cpp never does;
- ``(?i:'s)`` also means ``'ſ`` (long s), and llama.cpp approximates upper and lower case by ASCII (gpt-4o, tekken);
- ``<0x0A>`` and the like typed as text stay text; llama.cpp reads them as bytes in SentencePiece vocabularies.

Two exceptions: runs of more than 31 spaces in Gemma are cut from the left into longest pieces, as SentencePiece and
llama.cpp do and the merges of Gemma's ``tokenizer.json`` do not; and a ``▁`` typed as text never joins a run of spaces,
since GGUF files write those pieces with real spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from nomoat.core.errors import DataError
from nomoat.formats.gguf import GgufFile
from nomoat.model.gguf_vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    TURN_ENDS,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    read_vocabulary,
)
from nomoat.model.pretokenizers import pre_tokenizer
from nomoat.model.token_bytes import TokenBytes, byte_level, sentence_piece
from nomoat.model.tokenizer_gguf import build_backend
from nomoat.model.tokenizer_hf import read_folder

Span: TypeAlias = tuple[int, int]

_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True)
class Roles:
    """What particular tokens are for. ``control``: text -> id; ``eos_ids``: every id that ends a turn."""

    control: Mapping[str, int]
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    unk_id: int | None
    eos_ids: frozenset[int]
    adds_bos: bool


class Tokenizer:
    """``specials``: control tokens, text -> id; ``control_ids``: those ids.

    ``pad_id`` falls back to no token at all, never to a guess.
    """

    def __init__(self, backend: Backend, roles: Roles, token_bytes: TokenBytes, *, vocab_size: int) -> None:
        self.specials: dict[str, int] = dict(roles.control)
        self.bos_id, self.eos_id, self.pad_id = roles.bos_id, roles.eos_id, roles.pad_id
        self.unk_id = roles.unk_id
        self.eos_ids = roles.eos_ids
        self.adds_bos = roles.adds_bos
        self.vocab_size = vocab_size
        self.control_ids = frozenset(self.specials.values())
        self._token_bytes = token_bytes
        self._backend = backend
        self._plain = _without_specials(backend)

    def encode(self, text: str, *, specials: bool = True) -> list[int]:
        """Token ids. ``specials=False`` reads the text of control tokens as plain text, so that text from
        outside cannot open or end a turn; user-defined tokens are found either way.

        Raises ``DataError`` for a string that is not valid Unicode.
        """
        return self.encode_spans(text, specials=specials)[0]

    def encode_spans(self, text: str, *, specials: bool = True) -> tuple[list[int], list[Span]]:
        """Token ids, and for each the part of ``text`` it stands for, in characters."""
        _check_unicode(text)
        encoding = (self._backend if specials else self._plain).encode(text, add_special_tokens=False)
        ids, spans = encoding.ids, encoding.offsets
        if not specials and not self.control_ids.isdisjoint(ids):
            return self._letter_by_letter(text, ids, spans)
        return ids, spans

    def _letter_by_letter(self, text: str, ids: list[int], spans: list[Span]) -> tuple[list[int], list[Span]]:
        """Spell out each word that happens to read like a control token."""
        kept_ids: list[int] = []
        kept_spans: list[Span] = []
        for token, (start, end) in zip(ids, spans, strict=True):
            if token not in self.control_ids:
                kept_ids.append(token)
                kept_spans.append((start, end))
                continue
            for at in range(start, end):
                letters = self._plain.encode(text[at], add_special_tokens=False).ids
                kept_ids += [letter for letter in letters if letter not in self.control_ids]
                kept_spans += [(at, at + 1) for letter in letters if letter not in self.control_ids]
        return kept_ids, kept_spans

    def decode(self, ids: Iterable[int], *, skip_specials: bool = True) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become U+FFFD. Ids outside the vocabulary have no text."""
        kept = (i for i in ids if not (skip_specials and i in self.control_ids))
        text = b"".join(map(self.token_text, kept)).decode("utf-8", "replace")
        return text[1:] if self._token_bytes.space_first and text.startswith(" ") else text

    def token_text(self, token: int) -> bytes:
        """The bytes a token stands for; a part of a character where the token is one."""
        piece = self._backend.id_to_token(token) if 0 <= token < self.vocab_size else None
        return b"" if piece is None else self._token_bytes.of(piece)

    def text_of(self, token: int | None) -> str:
        """A special token as it is written in a template; empty for None."""
        return "" if token is None else self.token_text(token).decode("utf-8", "replace")

    def same_words_as(self, other: Tokenizer) -> bool:
        """Whether every id that both have means the same bytes, and the same tokens control and end a turn.

        How text is cut is not compared: whoever needs the same ids of a text compares these.
        """
        if (self.specials, self.eos_ids) != (other.specials, other.eos_ids):
            return False
        both = range(min(self.vocab_size, other.vocab_size))
        return all(self.token_text(token) == other.token_text(token) for token in both)

    def save_json(self, path: Path) -> None:
        """Write a ``tokenizer.json`` that the ``tokenizers`` and ``transformers`` libraries read."""
        self._backend.save(str(path))


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"character {error.start} of the text is half of a surrogate pair, which is not valid Unicode",
            hint="write the file again as UTF-8",
        ) from error


def _without_specials(backend: Backend) -> Backend:
    """The same model (shared, not copied) that reads control tokens as plain text."""
    plain = Backend(backend.model)
    if backend.normalizer is not None:
        plain.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        plain.pre_tokenizer = backend.pre_tokenizer
    added: dict[int, AddedToken] = backend.get_added_tokens_decoder()
    plain.add_tokens([added[i] for i in sorted(added)])
    plain.encode_special_tokens = True
    return plain


def end_ids(control: Mapping[str, int], named: Iterable[int | None]) -> frozenset[int]:
    """The ids that a file names, and the well-known turn ends among its control tokens."""
    ends = {control[text] for text in TURN_ENDS if text in control}
    if "<|return|>" in control and "<|call|>" in control:
        ends.discard(control.get("<|end|>", -1))  # in the harmony format it ends a message, not the turn
    return frozenset(ends | {i for i in named if i is not None})


def from_gguf(gguf: GgufFile, cache: Path | None) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata.

    ``cache``: a folder where the merges of a SentencePiece vocabulary are kept once worked out; None: nowhere.
    Raises ``BadHeader``, and ``UnsupportedType`` for another kind or an unknown ``tokenizer.ggml.pre``.
    """
    return from_metadata(gguf.metadata, gguf.path, cache)


def from_metadata(metadata: Mapping[str, Any], source: Path | str, cache: Path | None) -> Tokenizer:
    """As ``from_gguf``, from the ``tokenizer.ggml.*`` keys alone; errors name ``source``."""
    vocabulary = read_vocabulary(metadata, source)
    backend = build_backend(vocabulary, cache, source)
    control, ids = vocabulary.of_type(CONTROL, UNKNOWN), vocabulary.ids
    roles = Roles(
        control=control,
        bos_id=ids.get("bos"),
        eos_id=ids.get("eos"),
        pad_id=ids.get("pad"),
        unk_id=ids.get("unk"),
        eos_ids=end_ids(control, [ids.get("eos"), ids.get("eot"), ids.get("eom")]),
        adds_bos=_adds_bos(vocabulary),
    )
    raw = set(vocabulary.of_type(CONTROL, UNKNOWN, USER_DEFINED))
    if vocabulary.kind == "gpt2":
        token_bytes = byte_level(raw)
    else:
        token_bytes = sentence_piece(raw, space_first=vocabulary.add_space_prefix)
    return Tokenizer(backend, roles, token_bytes, vocab_size=len(vocabulary.tokens))


def from_pieces(pieces: list[str], scores: list[float], source: Path | str) -> Tokenizer:
    """A SentencePiece vocabulary that begins ``<unk> <s> </s>``, then bytes, as llama2.c and Llama 2 have it."""
    types = [BYTE if _BYTE.fullmatch(piece) else NORMAL for piece in pieces]
    types[:3] = [UNKNOWN, CONTROL, CONTROL][: len(types)]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
    }
    return from_metadata(metadata, source, None)


def _adds_bos(vocabulary: Vocabulary) -> bool:
    if "bos" not in vocabulary.ids:
        return False
    if vocabulary.add_bos is not None:
        return vocabulary.add_bos
    return vocabulary.kind == "llama" or pre_tokenizer(vocabulary.pre).adds_bos


def from_folder(folder: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder; it needs a ``tokenizer.json``. Raises ``FormatError`` and its kin."""
    read = read_folder(folder)
    roles = Roles(
        control=read.control,
        bos_id=read.named.get("bos"),
        eos_id=read.named.get("eos"),
        pad_id=read.named.get("pad"),
        unk_id=read.named.get("unk"),
        eos_ids=end_ids(read.control, [read.named.get("eos"), *read.ends]),
        adds_bos=read.adds_bos,
    )
    return Tokenizer(read.backend, roles, read.token_bytes, vocab_size=read.backend.get_vocab_size())
