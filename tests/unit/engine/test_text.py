"""Bytes of tokens become text without broken characters and without stop strings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.core.errors import UsageError
from nomoat.engine.text import TextStream


def feed(stream: TextStream, chunks: list[bytes]) -> list[str]:
    given_out = []
    for chunk in chunks:
        given_out.append(stream.push(chunk))
        if stream.stopped:
            break
    return [*given_out, stream.finish()]


def test_a_character_cut_by_tokens_is_held_back_until_it_is_whole() -> None:
    smile = "🙂".encode()
    assert feed(TextStream(), [b"a", smile[:2], smile[2:], b"b"]) == ["a", "", "🙂", "b", ""]


def test_a_character_that_never_becomes_whole_ends_as_a_replacement_mark() -> None:
    assert feed(TextStream(), [b"a", "é".encode()[:1]]) == ["a", "", "�"]


def test_text_that_may_begin_a_stop_string_is_held_back_and_released_when_it_does_not() -> None:
    stream = TextStream(stop=["\nUser:"])
    assert stream.push(b"Yes.\nUs") == "Yes."
    assert stream.push(b"ually") == "\nUsually"
    assert not stream.stopped


def test_a_stop_string_that_spans_tokens_ends_the_text_before_it() -> None:
    stream = TextStream(stop=["\nUser:"])
    assert feed(stream, [b"Yes.", b"\nUs", b"er", b": more"]) == ["Yes.", "", "", "", ""]
    assert stream.stopped


def test_text_after_a_stop_string_in_the_same_token_is_dropped() -> None:
    stream = TextStream(stop=["."])
    assert stream.push(b"one. two") == "one"
    assert stream.push(b" three") == "" and stream.finish() == ""


def test_the_earliest_of_several_stop_strings_wins() -> None:
    stream = TextStream(stop=["c", "b"])
    assert stream.push(b"abc") == "a"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        TextStream(stop=[""])


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=8))
def test_any_bytes_cut_anywhere_give_the_text_of_the_whole(data: bytes, cuts: list[int]) -> None:
    assert "".join(feed(TextStream(), cut(data, cuts))) == data.decode("utf-8", "replace")


@given(
    st.text(alphabet="abé\n", max_size=30),
    st.text(alphabet="abé\n", min_size=1, max_size=4),
    st.lists(st.integers(0, 60), max_size=10),
)
def test_the_text_ends_at_the_first_stop_string_wherever_the_tokens_are_cut(
    text: str, stop: str, cuts: list[int]
) -> None:
    stream = TextStream(stop=[stop])
    assert "".join(feed(stream, cut(text.encode(), cuts))) == text.partition(stop)[0]
    assert stream.stopped == (stop in text)
