"""Merges out of scores: against the process itself, written out plainly."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from nomoat.formats.llama2c import read_tokenizer
from nomoat.model.spm_merges import cached_merges, merges_from_scores

STORIES = Path(__file__).parents[2] / "golden" / "stories260k" / "tok512.bin"


def sentence_piece(text: str, score: dict[str, float]) -> list[str]:
    """The definition: join the neighbours whose piece has the best score, the leftmost among equals."""
    parts = list(text)
    while True:
        pairs = [(-score[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in score]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def encoded(text: str, pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    return list(backend.encode(text).tokens)


def trained(rng: np.random.Generator, letters: str, n: int) -> list[str]:
    """Pieces as training makes them: each joins two that were there before."""
    pieces = list(letters)
    while len(pieces) < n:
        joined = pieces[rng.integers(len(pieces))] + pieces[rng.integers(len(pieces))]
        if joined not in pieces and len(joined) < 12:
            pieces.append(joined)
    return pieces


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["ab", "abc", "a", "▁ab"]), st.text("ab▁c", min_size=1, max_size=30))
def test_merges_give_what_the_scores_give(seed: int, letters: str, text: str) -> None:
    pieces = trained(np.random.default_rng(seed), letters, 3 * len(letters) + 4)
    scores = -np.arange(len(pieces), dtype=float)
    text = "".join(letter for letter in text if letter in letters)
    merges = merges_from_scores(pieces, scores)
    score = dict(zip(pieces, scores.tolist(), strict=True))
    assert encoded(text, pieces, merges) == sentence_piece(text, score)


def test_each_piece_has_at_most_one_merge() -> None:
    pieces, scores = read_tokenizer(STORIES)
    merges = merges_from_scores(pieces[259:], np.array(scores[259:]))
    made = [left + right for left, right in merges]
    assert len(set(made)) == len(made) == sum(len(piece) > 1 for piece in pieces[259:])


def test_scores_in_no_training_order_give_every_split() -> None:
    pieces, scores = ["a", "b", "c", "ab", "bc", "abc"], np.array([0, 0, 0, -5.0, -6.0, -1.0])
    assert merges_from_scores(pieces, scores) == [("ab", "c"), ("a", "bc"), ("a", "b"), ("b", "c")]


PIECES = ["a", "b", "ab", "abab"]
SCORES = np.array([0.0, 0.0, -1.0, -2.0])
MERGES = [("a", "b"), ("ab", "ab")]


def test_merges_come_back_from_the_cache(tmp_path: Path) -> None:
    assert cached_merges(PIECES, SCORES, tmp_path / "new") == MERGES
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert cached_merges(PIECES, SCORES, tmp_path / "new") == MERGES


def test_a_damaged_cache_is_worked_out_again(tmp_path: Path) -> None:
    cached_merges(PIECES, SCORES, tmp_path)
    (path,) = tmp_path.iterdir()
    for data in (b"", b"x" * 40, path.read_bytes()[:-4], path.read_bytes()[:-1] + b"\x7f"):
        path.write_bytes(data)
        assert cached_merges(PIECES, SCORES, tmp_path) == MERGES


def test_other_scores_are_another_entry(tmp_path: Path) -> None:
    cached_merges(PIECES, SCORES, tmp_path)
    cached_merges(PIECES, SCORES * 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert cached_merges(PIECES, SCORES, file) == MERGES
    assert cached_merges(PIECES, SCORES, None) == MERGES


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that cannot be written")
def test_a_read_only_cache_does_no_harm(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert cached_merges(PIECES, SCORES, tmp_path) == MERGES
