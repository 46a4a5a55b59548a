"""A ``tokenizers`` backend built from the vocabulary of a GGUF file."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from nomoat.core.errors import BadHeader
from nomoat.model.gguf_vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary
from nomoat.model.pretokenizers import pre_tokenizer
from nomoat.model.spm_merges import cached_merges

_NO_STRIP = ("<unk>", "<s>", "<|endoftext|>")  # Phi-3's special tokens that leave the white space after them


def build_backend(vocabulary: Vocabulary, cache: Path | None, source: Path | str) -> Tokenizer:
    """Byte-level BPE or SentencePiece, without BOS or any other post-processing.

    ``cache``: a folder for what is slow to work out. Raises ``BadHeader`` where merges and vocabulary disagree.
    """
    if vocabulary.kind == "gpt2":
        backend = _byte_level(vocabulary, source)
    else:
        backend = _sentence_piece(vocabulary, cache, source)
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, rstrip=_takes_space(vocabulary, token))
            for token in vocabulary.of_type(CONTROL, UNKNOWN)
        ]
    )
    backend.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in vocabulary.of_type(USER_DEFINED)]
    )
    return backend


def _takes_space(vocabulary: Vocabulary, token: str) -> bool:
    return vocabulary.strips_after_specials and token not in _NO_STRIP


def _byte_level(vocabulary: Vocabulary, source: Path | str) -> Tokenizer:
    words = pre_tokenizer(vocabulary.pre)
    merges = [_pair(line, source) for line in vocabulary.merges]
    backend = Tokenizer(_bpe(source, vocabulary.numbers, merges, ignore_merges=words.whole_words, byte_fallback=False))
    if words.nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = words.splitter()
    backend.decoder = decoders.ByteLevel()
    return backend


def _pair(line: str, source: Path | str) -> tuple[str, str]:
    """``a b``; the first half may itself begin with a space, never be empty."""
    cut = line.find(" ", 1)
    if cut < 0 or cut == len(line) - 1:
        raise BadHeader(f"{line!r} in tokenizer.ggml.merges is not a pair", file=source)
    return line[:cut], line[cut + 1 :]


def _sentence_piece(vocabulary: Vocabulary, cache: Path | None, source: Path | str) -> Tokenizer:
    places = (vocabulary.types == NORMAL).nonzero()[0]
    pieces = [vocabulary.tokens[i] for i in places.tolist()]
    merges = cached_merges(pieces, vocabulary.scores[places], cache)
    unknown = vocabulary.ids.get("unk")
    backend = Tokenizer(
        _bpe(
            source,
            vocabulary.numbers,
            merges,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=BYTE in vocabulary.types,
        )
    )
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    if vocabulary.add_space_prefix:
        spaces.insert(0, normalizers.Prepend("▁"))
    backend.normalizer = normalizers.Sequence(spaces)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if vocabulary.add_space_prefix else [])
    )
    return backend


def _bpe(
    source: Path | str,
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    *,
    byte_fallback: bool,
    unk_token: str | None = None,
    fuse_unk: bool = False,
    ignore_merges: bool = False,
) -> models.BPE:
    try:
        return models.BPE(
            vocab=vocab,
            merges=merges,
            unk_token=unk_token,
            fuse_unk=fuse_unk,
            byte_fallback=byte_fallback,
            ignore_merges=ignore_merges,
        )
    except Exception as error:  # the library raises nothing narrower
        raise BadHeader(
            f"the tokenizer's merges do not fit its vocabulary: {error}",
            file=source,
            hint="download or convert the file again",
        ) from error
