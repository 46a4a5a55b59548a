"""Laws of splitting, cleaning and packing, for any rows."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.data.clean import Seen
from nomoat.data.gather import Gathered
from nomoat.data.read import Reading
from nomoat.data.rows import defect, prompt_of, question_key
from nomoat.data.split import Thresholds, choose_thresholds

WORDS = st.text("ab cäßﬁ\n", min_size=1, max_size=6)
CHATS = st.lists(WORDS, min_size=2, max_size=6).map(
    lambda texts: {
        "messages": [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    }
)
ROW: st.SearchStrategy[dict[str, Any]] = (
    st.builds(lambda prompt, completion: {"prompt": prompt, "completion": completion}, WORDS, WORDS)
    | st.builds(lambda text: {"text": text}, WORDS)
    | CHATS
)
ROWS = st.lists(ROW, max_size=60)
SHARE = st.floats(0.0, 0.5)
few = settings(max_examples=15, deadline=None)


@given(ROWS, ROWS, SHARE, SHARE, st.integers(0, 3))
@few
def test_adding_rows_never_moves_an_old_row(
    old: list[Any], more: list[Any], valid: float, test: float, seed: int
) -> None:
    thresholds = choose_thresholds(old, valid=valid, test=test, seed=seed)
    before = [thresholds.split_of(row) for row in old]
    gathered = Gathered()
    gathered.rows = {"": more + old}
    splits = gathered.split(thresholds)
    for row, split in zip(old, before):
        assert row in splits[split]


@given(st.integers(200, 4000), st.integers(0, 1000), SHARE.filter(lambda share: 0.11 <= share <= 0.12))
@settings(max_examples=15, deadline=None)
def test_between_floor_and_cap_the_thresholds_do_not_depend_on_the_rows(n: int, first: int, share: float) -> None:
    rows = [{"prompt": f"q{index}", "completion": "a"} for index in range(first, first + n)]
    chosen = choose_thresholds(rows, valid=0.0, test=share, seed=0)
    count = sum(Thresholds(0.0, share, 0).split_of(row) == "test" for row in rows)
    assert (chosen.test == share) == (20 <= count <= 500)


@given(ROWS, SHARE, SHARE)
@few
def test_every_row_lands_once_and_no_prompt_stands_in_two_splits(rows: list[Any], valid: float, test: float) -> None:
    gathered = Gathered()
    gathered.rows = {"": rows}
    splits = gathered.split(gathered.thresholds(valid=valid, test=test, seed=0))
    assert sum(len(part) for part in splits.values()) == len(rows)
    prompts = [{question_key(prompt_of(row)) for row in part} for part in splits.values()]
    assert sum(len(part) for part in prompts) == len(set().union(*prompts))


@given(ROWS, st.randoms(use_true_random=False))
@few
def test_the_order_of_rows_does_not_change_their_split(rows: list[Any], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert choose_thresholds(rows, valid=0.2, test=0.3, seed=1) == choose_thresholds(
        shuffled, valid=0.2, test=0.3, seed=1
    )


@given(ROWS, ROWS, ROWS)
@few
def test_named_splits_share_no_row_and_no_prompt_and_every_row_is_accounted_for(
    train: list[Any], valid: list[Any], test: list[Any]
) -> None:
    gathered = Gathered()
    gathered.take(Reading(splits={"train": train, "valid": valid, "test": test}))
    gathered.settle_named_splits()
    gathered.deduplicate()
    prompts = [{question_key(prompt_of(row)) for row in part} for part in gathered.rows.values()]
    assert sum(len(part) for part in prompts) == len(set().union(*prompts))
    kept = sum(len(part) for part in gathered.rows.values())
    dropped = sum(reason.count for reason in gathered.account.dropped.values())
    assert kept + dropped == gathered.read == len(train) + len(valid) + len(test)


@given(ROWS)
@few
def test_removing_duplicates_twice_is_removing_them_once(rows: list[Any]) -> None:
    first, second = Seen(), Seen()
    once = [row for row in rows if first.is_new(row)]
    assert [row for row in once if second.is_new(row)] == once


@given(ROW)
@few
def test_every_row_is_usable_or_has_a_named_defect(row: Any) -> None:
    reason = defect(row)
    assert reason is None or reason.startswith(("empty", "turns", "no answer"))
