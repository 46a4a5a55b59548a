"""The public data sets of the field, where a checkout of them lies beside the repository: each guess is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.errors import DataError, NomoatError
from nomoat.data.read import ReadOptions, read

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")

READABLE = {
    "wikisql_mlx": ("text", 1100),
    "wwdc25_superbowl": ("prompt-completion", 1944),
    "gsm8k": ("prompt-completion", 7473),
    "alpaca": ("alpaca", 5998),
    "alpaca_eval/outputs/phi-2-sft.json": ("alpaca", 805),
    "dolly_small": ("prompt-completion", 151),
    "gpteacher": ("alpaca", 3146),
    "lima": ("alpaca", 1029),
    "llm_adapters/ARC-Challenge__train.json": ("alpaca", 1119),
    "llamafactory_demo/c4_demo.jsonl": ("text", 300),
    "llamafactory_demo/glaive_toolcall_en_demo.json": ("sharegpt", 300),
    "llamafactory_demo/identity.json": ("alpaca", 91),
    "llamafactory_demo/reason_tool_use_demo_50.jsonl": ("messages", 50),
    "llamafactory_demo/v1_sft_demo.jsonl": ("messages", 500),
    "rasbt_instruct/instruction-data.json": ("alpaca", 1100),
    "realtimeqa": ("choices", 945),
    "scienceqa/problems.json": ("choices", 834),
    "scienceqa/questions.jsonl": ("prompt-completion", 1534),
    "self_instruct": ("self-instruct", 175),
    "simpleqa": ("prompt-completion", 250),
    "vicuna_blog/question.jsonl": ("text", 80),
    "zero_shot_cot/CommonsenseQA__train_rand_split.jsonl": ("choices", 9741),
    "zero_shot_cot/coin_flip__coin_flip.json": ("prompt-completion", 500),
}
REFUSED = {
    "hh_rlhf/harmless-base_test.jsonl.gz": "better and worse answers",
    "hh_rlhf/helpful_base_siblings_from_oasst_seed.jsonl": "better and worse answers",
    "kto_mix": "marked good or bad",
    "llamafactory_demo/dpo_en_demo.json": "better and worse answers",
    "llamafactory_demo/kto_en_demo.json": "marked good or bad",
    "oasst_en": "trees of ranked replies",
    "oasst_zh": "ranked answers",
    "rasbt_instruct/instruction-data-with-preference.json": "better and worse answers",
    "stack_exchange_paired": "better and worse answers",
    "alpaca_eval/prompts.jsonl": "no known kind",
    "mt_bench/mt_bench__question.jsonl": "no known kind",
    "llm_adapters/mawps__trainset.json": "no known kind",
}


@pytest.mark.parametrize(("name", "expected"), READABLE.items())
def test_rows_are_read_with_the_right_guess(name: str, expected: tuple[str, int]) -> None:
    reading = read(SHARED / name)
    assert (reading.kind, len(reading.rows)) == expected


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_rows_that_are_not_for_tuning_are_refused_for_the_right_reason(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(SHARED / name)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["moby", "tinyshakespeare", "tinystories", "wikitext2"])
def test_books_become_passages_and_lose_no_word(name: str) -> None:
    reading = read(SHARED / name)
    whole = read(SHARED / name, ReadOptions(passage=0)).rows[0]["text"]
    assert reading.kind == "document" and len(reading.rows) > 200
    assert " ".join(row["text"] for row in reading.rows).split() == whole.split()


@pytest.mark.parametrize("name", ["identity", "alpaca_en_demo", "glaive_toolcall_en_demo", "c4_demo", "wiki_demo"])
def test_llamafactory_entries_read_by_name(name: str) -> None:
    assert len(read(SHARED / "llamafactory_demo", ReadOptions(dataset=name)).rows) > 50


def test_no_file_of_any_kind_raises_anything_but_our_errors() -> None:
    files = [path for path in SHARED.rglob("*") if path.is_file() and path.stat().st_size < 60_000]
    outcomes = set()
    for path in files:
        try:
            outcomes.add(bool(read(path).rows))
        except NomoatError as error:
            outcomes.add(type(error).__name__)
    assert {"DataError", "UsageError", True} <= outcomes
