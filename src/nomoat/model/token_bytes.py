"""The bytes that a vocabulary entry stands for."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

_SPACE = "▁"


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """``raw``: entries written as they read. ``alphabet``: one character a byte, or None for SentencePiece.

    ``space_first``: encoding puts a space in front of a text, so decoding takes one away.
    """

    raw: frozenset[str]
    alphabet: dict[str, int] | None
    space_first: bool = False

    def of(self, piece: str) -> bytes:
        if self.alphabet is None:
            return self._sentence_piece(piece)
        if piece in self.raw:
            return piece.encode()
        try:
            return bytes(self.alphabet[letter] for letter in piece)
        except KeyError:  # no byte-level entry after all, such as padding that a converter made up
            return piece.encode()

    def _sentence_piece(self, piece: str) -> bytes:
        if piece in self.raw:
            return piece.encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            try:
                return bytes([int(piece[3:5], 16)])
            except ValueError:
                return piece.encode()
        return piece.replace(_SPACE, " ").encode()


def byte_level(raw: Set[str]) -> TokenBytes:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    alphabet = {chr(byte): byte for byte in (*range(33, 127), *range(161, 173), *range(174, 256))}
    others = [byte for byte in range(256) if byte not in set(alphabet.values())]
    alphabet.update((chr(256 + place), byte) for place, byte in enumerate(others))
    return TokenBytes(frozenset(raw), alphabet)


def sentence_piece(raw: Set[str], *, space_first: bool) -> TokenBytes:
    """``▁`` is a space, ``<0x41>`` a byte."""
    return TokenBytes(frozenset(raw), None, space_first)
