"""Rows to ids and mask: what is learned, what happens to long rows, and that every row is accounted for."""

from __future__ import annotations

from typing import Any

import pytest

from nomoat.core.errors import DataError, UsageError
from nomoat.data.encode import MIN_ANSWER_TOKENS, encode_rows, measure, raw_prompt_ids
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.show import segments
from nomoat.model.load import Base
from nomoat.model.template import encode_chat
from tiny import tiny_base

PAIR = {"prompt": "2+2?", "completion": "four"}
CHAT = {
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "sure?"},
        {"role": "assistant", "content": "yes"},
    ]
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"))


def encode(base: Base, *rows: dict[str, Any], **options: Any) -> Any:
    return encode_rows(rows, base.tokenizer, base.template, EncodeOptions(**options))


def learned(base: Base, encoded: Any) -> list[str]:
    return [segment.text for segment in segments(encoded, base.tokenizer) if segment.learned]


def written(base: Base, encoded: Any) -> str:
    return "".join(segment.text for segment in segments(encoded, base.tokenizer))


def test_a_pair_is_a_chat_of_two_and_only_the_answer_and_its_end_are_learned(base: Base) -> None:
    (row,) = encode(base, PAIR).rows
    chat = encode_chat(base.tokenizer, base.template, CHAT["messages"][:2])
    assert (row.ids, row.loss_mask) == (chat.ids, chat.loss_mask)
    assert len(learned(base, row)) == 1 and learned(base, row)[0].startswith("four<|im_end|>")


def test_every_answer_of_a_conversation_is_learned(base: Base) -> None:
    texts = learned(base, encode(base, CHAT).rows[0])
    assert [text.split("<|im_end|>")[0] for text in texts] == ["four", "yes"]


def test_everything_is_learned_on_request(base: Base) -> None:
    (row,) = encode(base, PAIR, loss="all").rows
    assert all(row.loss_mask) and row.ids == encode(base, PAIR).rows[0].ids


def test_raw_pairs_are_tokenized_apart_and_end_with_the_learned_end_token(base: Base) -> None:
    (row,) = encode(base, PAIR, chat="raw").rows
    prompt = raw_prompt_ids("2+2?", base.tokenizer)
    answer = base.tokenizer.encode("four")
    assert row.ids == [*prompt, *answer, base.tokenizer.eos_id]
    assert row.loss_mask == [False] * len(prompt) + [True] * (len(answer) + 1)


def test_raw_concerns_pairs_only(base: Base) -> None:
    assert encode(base, CHAT, chat="raw").rows == encode(base, CHAT).rows


def test_a_text_is_learned_whole_and_ends_once(base: Base) -> None:
    plain, ended = encode(base, {"text": "To be"}, {"text": "To be<|im_end|>"}).rows
    assert plain == ended
    assert written(base, plain) == "To be<|im_end|>" and all(plain.loss_mask)


def test_bos_stands_once_in_front_where_the_base_wants_it(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.tokenizer, "adds_bos", True)
    bos = base.tokenizer.bos_id
    for row in (
        *encode(base, {"text": "To be"}, {"text": "<|endoftext|>To be"}).rows,
        *encode(base, PAIR, chat="raw").rows,
    ):
        assert row.ids[0] == bos and bos not in row.ids[1:]


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_long_text_is_cut_into_even_windows_that_learn_every_token_once(
    base: Base, monkeypatch: pytest.MonkeyPatch, adds_bos: bool
) -> None:
    monkeypatch.setattr(base.tokenizer, "adds_bos", adds_bos)
    text = "".join(chr(97 + n % 26) for n in range(100))
    result = encode(base, {"text": text}, max_seq_len=33)
    taught = [i for row in result.rows for i, mask in zip(row.ids[1:], row.loss_mask[1:]) if mask]
    whole = base.tokenizer.encode(text)
    assert taught == [*(whole if adds_bos else whole[1:]), base.tokenizer.eos_id]
    sizes = [len(row.ids) for row in result.rows]
    assert max(sizes) <= 33 and max(sizes) - min(sizes) <= 2
    assert (result.windowed, result.sources) == (1, [0] * len(sizes))
    assert all(len(learned(base, row)) == 1 for row in result.rows)


LONG = {"prompt": "p" * 30, "completion": "a" * 250}


def test_long_rows_are_dropped_by_default_and_counted(base: Base) -> None:
    result = encode(base, PAIR, LONG, PAIR, max_seq_len=128)
    assert result.sources == [0, 2] and result.dropped == {"longer than 128 tokens": 1}
    assert sum(count for _, count in result.histogram) == 3
    assert result.histogram[-1][0] == 512


def test_long_rows_are_refused_on_request_with_their_number(base: Base) -> None:
    with pytest.raises(DataError, match=r"row 2 has \d+ tokens, more than 128"):
        encode(base, PAIR, LONG, max_seq_len=128, over_length="raise")


def test_truncation_cuts_the_end_of_the_answer_and_teaches_no_stop_token(base: Base) -> None:
    result = encode(base, LONG, max_seq_len=128, over_length="truncate")
    (row,) = result.rows
    whole = encode(base, LONG).rows[0]
    assert row.ids == whole.ids[:128] and row.loss_mask == whole.loss_mask[:128]
    assert base.tokenizer.eos_id not in [i for i, mask in zip(row.ids, row.loss_mask) if mask]
    assert (result.truncated, result.dropped) == (1, {})


def test_truncation_drops_a_row_whose_prompt_leaves_no_room(base: Base) -> None:
    whole = encode(base, LONG).rows[0]
    start = whole.loss_mask.index(True)
    room = start + MIN_ANSWER_TOKENS
    assert len(encode(base, LONG, max_seq_len=room, over_length="truncate").rows) == 1
    result = encode(base, LONG, max_seq_len=room - 1, over_length="truncate")
    assert result.rows == [] and result.dropped == {f"prompt longer than {room - 1} tokens": 1}


def test_the_account_adds_up(base: Base) -> None:
    result = encode(base, PAIR, LONG, {"text": "t" * 300}, CHAT, max_seq_len=128)
    assert len(set(result.sources)) + sum(result.dropped.values()) == 4
    account = result.as_json()
    assert account["tokens"] == sum(len(row.ids) for row in result.rows)
    assert account["learned_tokens"] == sum(sum(row.loss_mask[1:]) for row in result.rows)


def test_a_length_that_holds_nothing_is_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="--max-seq-len 4"):
        encode(base, PAIR, max_seq_len=4)


def test_measuring_counts_whole_rows(base: Base) -> None:
    measured = measure([PAIR, LONG], base.name, base.tokenizer, base.template)
    lengths = [len(row.ids) for row in encode(base, PAIR, LONG, max_seq_len=4096).rows]
    assert (measured["total"], measured["longest"]) == (sum(lengths), max(lengths))


def test_segments_join_to_the_text_and_cut_no_character(base: Base) -> None:
    (row,) = encode(base, {"prompt": "naïve 😀?", "completion": "déjà vu 🎉"}).rows
    parts = segments(row, base.tokenizer)
    assert [part.learned for part in parts][:2] == [False, True]
    assert "naïve 😀?" in parts[0].text and "déjà vu 🎉" in parts[1].text
