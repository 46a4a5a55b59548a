"""``nomoat chat`` fed through a pipe: answers on stdout, talk on stderr."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.engine import batch
from nomoat.engine.chat import Session
from nomoat.engine.sampling import Sampling
from nomoat.engine.schedule import Segment
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base
from tiny import tiny_base


@pytest.fixture
def home() -> Store:
    """A home with the base ``tiny`` and the adapter ``odd``, which changes what it says."""
    store = Store()
    base = tiny_base(store.path("bases", "tiny"), tie_word_embeddings=False)
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=16), seed=1, name="odd")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    with store.writing("adapters", "odd") as folder:
        save_adapter(adapter, folder)
        write_lineage(folder, Lineage("adapters", "odd", parents=(Parent("bases", "tiny", ""),)))
    return store


def chat(*lines: str, model: str = "tiny", flags: tuple[str, ...] = ("--max-tokens", "8")) -> tuple[int, str, str]:
    text = "".join(line + "\n" for line in lines)
    env = Environment(stdin=io.StringIO(text), stdout=io.StringIO(), stderr=io.StringIO())
    code = main(["chat", model, *flags], env)
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return code, env.stdout.getvalue(), env.stderr.getvalue()


def answers(store: Store, *texts: str, max_tokens: int = 8) -> list[str]:
    session = Session(load_base(store.path("bases", "tiny")))
    sampling = Sampling(max_tokens=max_tokens)
    return ["".join(piece.text for piece in session.ask(text, sampling)) for text in texts]


def test_every_line_is_answered_in_the_light_of_what_was_said(home: Store) -> None:
    code, out, _ = chat("hello", "", "more")
    assert code == 0
    assert out == "".join(text + "\n" for text in answers(home, "hello", "more"))


def test_reset_forgets(home: Store) -> None:
    _, out, err = chat("hello", "/reset", "hello")
    assert out == (answers(home, "hello")[0] + "\n") * 2
    assert "forgotten" in err


def test_a_trailing_backslash_joins_lines_to_one_message(home: Store) -> None:
    assert chat("one\\", "two")[1] == answers(home, "one\ntwo")[0] + "\n"


def test_quit_leaves_and_the_end_of_input_too(home: Store) -> None:
    assert chat("/quit", "hello") == (0, "", "")
    assert chat() == (0, "", "")


def test_save_adds_the_conversation_as_one_row_of_messages(home: Store, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    _, out, err = chat("/system be brief", "hello", f"/save {file}", "/reset", "again", f"/save {file}")
    first, second = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert [message["role"] for message in first] == ["system", "user", "assistant"]
    assert first[2]["content"] + "\n" + second[2]["content"] + "\n" == out
    assert second[0] == {"role": "system", "content": "be brief"} and second[1]["content"] == "again"
    assert str(file) in err


def test_save_says_what_is_missing(home: Store, tmp_path: Path) -> None:
    _, _, err = chat("/save", f"/save {tmp_path / 'x.jsonl'}", "hi", f"/save {tmp_path / 'no' / 'x.jsonl'}")
    assert "needs a file" in err and "nothing was said yet" in err and "no such file" in err


def test_adapters_are_put_on_and_off_while_talking(home: Store) -> None:
    plain = chat("hello")[1]
    _, out, err = chat("hello", "/reset", "/stack odd:0.5+odd", "/stack odd", "hello", "/reset", "/stack", "hello")
    first, worn, last = out.split("\n")[:3]
    assert first + "\n" == plain and last == first and worn != first
    assert "'odd' twice" in err and "tiny+odd" in err
    assert chat("hello", model="tiny+odd")[1] == worn + "\n"


def test_adapters_lists_what_can_be_worn_and_marks_what_is(home: Store) -> None:
    _, _, err = chat("/adapters", "/stack odd", "/adapters")
    assert "  odd  (on tiny)" in err and "* odd  (on tiny)" in err


def test_temperature_changes_the_next_answers(home: Store) -> None:
    _, out, err = chat("hello", "/reset", "/temperature 5", "hello", flags=("--max-tokens", "8", "--seed", "4"))
    cold, hot = out.split("\n")[:2]
    assert cold != hot and "temperature 5" in err
    assert "cannot be 'warm'" in chat("/temperature warm")[2]
    assert "temperature" in chat("/temperature -1")[2]


def test_show_tells_tokens_and_speed(home: Store) -> None:
    _, _, err = chat("hello", "/show")
    assert "8 tokens" in err and "tokens/s" in err and "of 512" in err and "0 of them reused" in err


def test_help_lists_every_command(home: Store) -> None:
    _, _, err = chat("/help")
    for word in ("/help", "/reset", "/save", "/system", "/stack", "/adapters", "/temperature", "/show", "/quit"):
        assert word in err


def test_an_unknown_command_is_told_and_the_talk_goes_on(home: Store) -> None:
    code, out, err = chat("/dance", "hello")
    assert code == 0 and "no command /dance" in err
    assert out == answers(home, "hello")[0] + "\n"


def test_a_doubled_slash_says_a_message_that_begins_with_one(home: Store) -> None:
    assert chat("//etc")[1] == answers(home, "/etc")[0] + "\n"


def test_a_message_that_does_not_fit_is_told_and_the_talk_goes_on(home: Store) -> None:
    code, out, err = chat("x" * 600, "hello")
    assert code == 0 and "the context holds 512" in err
    assert out == answers(home, "hello")[0] + "\n"


def test_ctrl_c_stops_the_answer_and_not_the_talk(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third token of the first answer is interrupted, as a signal would do it: inside the forward pass."""
    steps = 0
    forward = batch.Batch._forward

    def interrupted(self: batch.Batch, segments: list[Segment]) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return forward(self, segments)

    monkeypatch.setattr(batch.Batch, "_forward", interrupted)
    code, out, err = chat("hello", "/reset", "hello")
    whole = answers(home, "hello")[0]
    first, second = out.split("\n")[:2]
    assert code == 0 and "(stopped)" in err
    assert second == whole and whole.startswith(first) and len(first) < len(whole)


def test_json_prints_one_line_an_answer(home: Store) -> None:
    _, out, _ = chat("hello", flags=("--max-tokens", "8", "--json"))
    assert json.loads(out) == {"record": "answer", "text": answers(home, "hello")[0], "finish_reason": "length"}
