"""A teacher's probabilities in the tokens of a student that cuts text otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nomoat.kernels.divergence import Target, divergences
from nomoat.model.template import Encoded
from nomoat.model.tokenizer import Tokenizer
from nomoat.move.alignment import Alignment
from tiny import tiny_base

MERGES = [("s", "k"), ("sk", "y"), ("b", "l")]


@pytest.fixture
def plain(tmp_path: Path) -> Tokenizer:
    return tiny_base(tmp_path / "plain").tokenizer


@pytest.fixture
def merged(tmp_path: Path) -> Tokenizer:
    return tiny_base(tmp_path / "merged", merges=MERGES).tokenizer


def row(tokenizer: Tokenizer, text: str) -> Encoded:
    ids = [*tokenizer.encode(text), tokenizer.specials["<|im_end|>"]]
    return Encoded([tokenizer.specials["<|endoftext|>"], *ids], [False, *[True] * len(ids)])


def thought_of(encoded: Encoded, tokenizer: Tokenizer, k: int = 6) -> Target:
    """Each learned token at 0.5, and five others at 0.05."""
    others = [tokenizer.encode(letter)[0] for letter in "vwxyzq"]
    rows = [[token, *[other for other in others if other != token][: k - 1]] for token in encoded.learned]
    return Target(torch.tensor(rows), torch.tensor([0.5, *[0.05] * (k - 1)]).log().expand(len(rows), k))


def shares(target: Target, place: int) -> dict[int, float]:
    pairs = zip(target.ids[place].tolist(), target.logprobs[place].exp().tolist())
    return {token: share for token, share in pairs if share > 0}


def test_between_equal_tokenizers_nothing_changes(plain: Tokenizer) -> None:
    encoded = row(plain, "the sky is blue")
    thought, alignment = thought_of(encoded, plain), Alignment(plain, plain)
    moved = alignment.target(encoded, encoded, thought)
    for place in range(len(encoded.learned)):
        assert shares(moved, place) == pytest.approx(shares(thought, place))
    assert alignment.alike == alignment.learned == len(encoded.learned)


def test_what_is_cut_otherwise_is_learned_as_it_is_written(plain: Tokenizer, merged: Tokenizer) -> None:
    old, new = row(plain, "a sky, blue"), row(merged, "a sky, blue")
    alignment = Alignment(plain, merged)
    moved = alignment.target(old, new, thought_of(old, plain))
    texts = [merged.token_text(token) for token in new.learned]
    assert texts[2] == b"sky" and b"bl" in texts and alignment.alike == len(texts) - 2
    for place, token in enumerate(new.learned):
        found = shares(moved, place)
        alone = texts[place] in (b"sky", b"bl")
        assert found[token] == pytest.approx(1.0 if alone else 0.5)
        assert len(found) == (1 if alone else 6)
        assert len(set(moved.ids[place].tolist())) == 6
    spoken = {merged.token_text(token) for token in shares(moved, 0)}
    assert spoken == {b"a", *(letter.encode() for letter in "vwxyz")}  # in the student's own numbers
    loss = divergences(torch.randn(len(texts), merged.vocab_size), moved)
    assert bool(loss.isfinite().all()) and bool((loss >= 0).all())


def test_what_the_student_has_no_token_for_is_left_to_the_rest(plain: Tokenizer, merged: Tokenizer) -> None:
    old, new = row(merged, "aa"), row(plain, "aa")
    sky = merged.encode("sky")
    assert len(sky) == 1
    ids = torch.tensor([[token, sky[0]] for token in old.learned])
    moved = Alignment(merged, plain).target(old, new, Target(ids, torch.tensor([0.5, 0.25]).log().expand(3, 2)))
    for place, token in enumerate(new.learned):
        assert shares(moved, place) == pytest.approx({token: 0.5})


def test_where_nothing_can_be_said_and_where_texts_differ_the_words_alone_are_learned(
    plain: Tokenizer, merged: Tokenizer
) -> None:
    old, new = row(merged, "aa"), row(plain, "aa")
    sky = merged.encode("sky")[0]
    only = Target(torch.tensor([[sky]] * 3), torch.zeros(3, 1))
    for student in (new, row(plain, "ab")):
        alignment = Alignment(merged, plain)
        moved = alignment.target(old, student, only)
        assert moved.ids[:, 0].tolist() == student.learned and bool((moved.logprobs == 0).all())
        assert alignment.alike == 0 and alignment.learned == 3


def test_every_end_of_a_turn_is_the_end_that_the_student_writes(plain: Tokenizer, merged: Tokenizer) -> None:
    old, new = row(plain, "a"), row(merged, "a")
    assert len(plain.eos_ids) >= 1
    ends = [*plain.eos_ids][:2]
    ids = torch.tensor([[old.learned[0], *ends], [*ends, old.learned[0]]])
    thought = Target(ids, torch.full(ids.shape, 0.25).log())
    moved = Alignment(plain, merged).target(old, new, thought)
    assert shares(moved, 1)[merged.specials["<|im_end|>"]] == pytest.approx(0.25 * len(ends))
