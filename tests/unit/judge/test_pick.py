"""The check that fits the rows is chosen, and the reason said."""

from __future__ import annotations

from nomoat.judge.pick import pick_check
from nomoat.judge.questions import question, with_answer

SQL = "SELECT Notes FROM 1-1000181-{n} WHERE Current slogan = 'SOUTH {n}'"
PROSE = (
    "Adapters are small matrices that are added to the frozen weights of a model. They are trained on your rows, "
    "and they can be taken off again at any time; number {n} was the last."
)


def answered(*answers: str) -> list[dict[str, str]]:
    return [{"prompt": f"question {n}", "completion": answer} for n, answer in enumerate(answers)]


def test_answers_from_a_small_set_are_multiple_choice_and_the_set_is_kept() -> None:
    chosen = pick_check(answered(*["spam", "fine", "spam"] * 5))
    assert (chosen.name, chosen.choices) == ("choice", ("spam", "fine"))
    assert "'spam', 'fine'" in chosen.why


def test_spellings_of_one_answer_are_not_a_set_of_choices() -> None:
    assert pick_check(answered(*["Yes", "yes"] * 8)).name == "normalised"


def test_numbers_are_compared_as_numbers_alone_or_after_worked_steps() -> None:
    assert pick_check(answered(*[f"{n} km" for n in range(20)])).name == "number"
    assert pick_check(answered(*[f"Tom has {n} and {n}.\n#### {2 * n}" for n in range(20)])).name == "number"


def test_one_line_of_code_or_data_is_compared_exactly() -> None:
    assert pick_check(answered(*[SQL.format(n=n) for n in range(20)])).name == "exact"
    assert pick_check(answered(*[f'{{"city": "town {n}", "people": {n}}}' for n in range(20)])).name == "exact"


def test_prose_that_opens_with_a_sql_word_is_not_code() -> None:
    assert (
        pick_check(answered(*["Create a plan for the week, then " + PROSE.format(n=n) for n in range(9)])).name
        == "loss"
    )


def test_a_few_words_are_compared_normalised() -> None:
    assert pick_check(answered(*[f"Town {n}" for n in range(20)])).name == "normalised"


def test_free_text_and_plain_text_are_judged_by_held_out_loss() -> None:
    free = pick_check(answered(*[PROSE.format(n=n) for n in range(20)]))
    plain = pick_check([{"text": "once upon a time"}] * 20)
    assert (free.name, plain.name, pick_check([]).name) == ("loss", "loss", "loss")
    assert "free text" in free.why
    assert "plain text" in plain.why


def test_messages_are_judged_by_their_last_answer() -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": "add"},
                {"role": "user", "content": f"1+{n}"},
                {"role": "assistant", "content": f"{n + 1}"},
            ]
        }
        for n in range(20)
    ]
    asked = question(rows[3])
    assert asked is not None
    assert (asked.prompt, asked.expected) == ("system: add\nuser: 1+3", "4")
    assert pick_check(rows).name == "number"


def test_another_answer_leaves_the_rest_of_the_row_alone() -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
    assert with_answer(row, "hey")["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hey"},
    ]
    assert row["messages"][1]["content"] == "ho"
    assert with_answer({"prompt": "a", "completion": "b"}, "c") == {"prompt": "a", "completion": "c"}


def test_a_row_that_ends_in_a_tool_call_asks_nothing_that_can_be_compared() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    assert question({"messages": [{"role": "user", "content": "hi"}, call]}) is None
