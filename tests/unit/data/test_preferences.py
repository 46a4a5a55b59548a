"""Pairs of better and worse answers, from every dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError
from nomoat.data.preferences import Preference, preferences_of, read_preferences
from nomoat.data.rows import Place

HERE = Place("pairs.jsonl", 1, 1)
ASKED = ({"role": "user", "content": "Hi?"},)


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "Hi?", "chosen": "good", "rejected": "bad"},
        {"instruction": "Hi?", "input": "", "chosen": "good", "rejected": "bad", "output": "x"},
        {"question": "Hi?", "response_j": "good", "response_k": "bad"},
        {"prompt": [{"role": "user", "content": "Hi?"}], "chosen": [{"role": "assistant", "content": "good"}],
         "rejected": [{"role": "assistant", "content": "bad"}]},
        {"chosen": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "good"}],
         "rejected": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "bad"}]},
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: good", "rejected": "\n\nHuman: Hi?\n\nAssistant: bad"},
        {"conversations": [{"from": "human", "value": "Hi?"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}},
        {"messages": [{"role": "user", "content": "Hi?"}], "reply_a": "bad", "reply_b": "good", "preferred": "b"},
        {"instruction": "Hi?", "output": ["good", "bad"]},
    ],
)  # fmt: skip
def test_every_dialect_reads_the_same(raw: dict[str, Any]) -> None:
    assert preferences_of(raw, HERE) == [Preference(ASKED, "good", "bad")]


def test_a_tree_gives_neighbours_by_rank_at_every_question() -> None:
    leaf = {"role": "assistant", "replies": []}
    deeper = {
        "role": "prompter",
        "text": "More?",
        "replies": [leaf | {"text": "p", "rank": 1}, leaf | {"text": "q", "rank": 0}],
    }
    replies = [
        {"role": "assistant", "text": "second", "rank": 1, "replies": []},
        {"role": "assistant", "text": "first", "rank": 0, "replies": [deeper]},
        {"role": "assistant", "text": "third", "rank": 2, "replies": []},
    ]
    found = preferences_of({"prompt": {"role": "prompter", "text": "Hi?", "replies": replies}}, HERE)
    assert [(each.chosen, each.rejected) for each in found] == [("first", "second"), ("second", "third"), ("q", "p")]
    assert [message["content"] for message in found[2].messages] == ["Hi?", "first", "More?"]


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"prompt": "Hi?", "completion": "x"}, "no pair of answers"),
        ({"prompt": "Hi?", "reply_a": "x", "reply_b": "y"}, "does not say which"),
        ({"prompt": "Hi?", "reply_a": "x", "reply_b": "y", "winner": "both"}, "names neither"),
        ({"chosen": "good", "rejected": "bad"}, "no dialogue"),
        ({"prompt": "Hi?", "chosen": {}, "rejected": "bad"}, "must be text"),
        ({"prompt": {"text": "Hi?", "replies": 3}}, "no 'text' and 'replies'"),
    ],
)
def test_a_row_without_a_pair_is_refused_with_its_place(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        preferences_of(raw, HERE)
    assert "pairs.jsonl" in str(caught.value)


def test_a_file_is_read_whole_and_equal_answers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "Hi?", "chosen": "good", "rejected": word} for word in ("bad", "good")]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_preferences(path) == [Preference(ASKED, "good", "bad")]
    path.write_text(json.dumps(rows[1]))
    with pytest.raises(DataError, match="holds no pairs"):
        read_preferences(path)


def test_conversations_that_part_before_their_last_answers_are_no_pair(tmp_path: Path) -> None:
    sides = [
        [{"role": "assistant", "content": word}, *ASKED, {"role": "assistant", "content": "x" + word}] for word in "ab"
    ]
    row = {"prompt": list(ASKED), "chosen": sides[0], "rejected": sides[1]}
    assert preferences_of(row, Place("rows", 1, 1)) == []
    same = [[*sides[0][:-1], {"role": "assistant", "content": word}] for word in ("good", "bad")]
    (found,) = preferences_of({**row, "chosen": same[0], "rejected": same[1]}, Place("rows", 1, 1))
    assert (found.chosen, found.rejected, len(found.messages)) == ("good", "bad", 3)
