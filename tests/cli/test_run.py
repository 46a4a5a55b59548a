"""``nomoat run`` on a tiny base: text to stdout, JSON lines on request, errors with their exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.engine.generate import Engine, Request, text_ids
from nomoat.engine.sampling import Sampling
from nomoat.model.load import load_base
from nomoat.model.template import prompt_ids
from tiny import tiny_folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path / "tiny", tie_word_embeddings=False))


def nomoat(*argv: str, stdin: str = "") -> tuple[int, str, str]:
    env = Environment(stdin=io.StringIO(stdin), stdout=io.StringIO(), stderr=io.StringIO())
    code = main(argv, env)
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return code, env.stdout.getvalue(), env.stderr.getvalue()


def expected(model: str, messages: list[dict[str, str]], **options: object) -> str:
    base = load_base(Path(model))
    ids = prompt_ids(base.tokenizer, base.template, messages)
    return Engine(base).complete([Request(ids, Sampling(**options))])[0].text  # type: ignore[arg-type]


def test_a_prompt_is_answered_through_the_chat_template(model: str) -> None:
    code, out, err = nomoat("run", model, "hello", "--max-tokens", "12")
    assert (code, err) == (0, "")
    assert out == expected(model, [{"role": "user", "content": "hello"}], max_tokens=12) + "\n"


def test_a_system_message_comes_before_the_prompt(model: str) -> None:
    messages = [{"role": "system", "content": "be odd"}, {"role": "user", "content": "hello"}]
    _, out, _ = nomoat("run", model, "hello", "--system", "be odd", "--max_tokens=12")
    assert out == expected(model, messages, max_tokens=12) + "\n"


def test_raw_goes_on_from_the_prompt_as_it_is(model: str) -> None:
    base = load_base(Path(model))
    request = Request(text_ids(base, "once upon"), Sampling(max_tokens=12))
    _, out, _ = nomoat("run", model, "once upon", "--raw", "--max-tokens", "12")
    assert out == Engine(base).complete([request])[0].text + "\n"


def test_a_dash_reads_the_prompt_from_stdin(model: str) -> None:
    _, out, _ = nomoat("run", model, "-", "--max-tokens", "12", stdin="hello")
    assert out == expected(model, [{"role": "user", "content": "hello"}], max_tokens=12) + "\n"


def test_json_prints_the_pieces_and_then_the_whole(model: str) -> None:
    _, out, _ = nomoat("run", model, "hello", "--max-tokens", "12", "--json")
    *pieces, last = [json.loads(line) for line in out.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == last["result"]["text"]
    assert last["record"] == "done" and last["result"]["tokens"] == len(pieces) == 12
    assert last["result"]["finish_reason"] == "length"


def test_stop_strings_may_hold_commas_and_be_given_twice(model: str) -> None:
    whole = expected(model, [{"role": "user", "content": "hello"}], max_tokens=40)
    late, early = whole[20:22], whole[5:7]
    _, out, _ = nomoat("run", model, "hello", "--max-tokens", "40", "--stop", late, "--stop", early)
    cut = min(whole.find(late), whole.find(early))
    assert out == whole[:cut] + "\n"


def test_a_seeded_draw_can_be_repeated(model: str) -> None:
    flags = ("--temperature", "1.5", "--top-p", "0.9", "--max-tokens", "20")
    texts = [nomoat("run", model, "dice", *flags, "--seed", seed)[1] for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_longer_than_the_context_names_the_limit(model: str) -> None:
    code, out, err = nomoat("run", model, "x" * 600)
    assert (code, out) == (2, "")
    assert "the context holds 512" in err and "hint:" in err


@pytest.mark.parametrize(
    ("argv", "code", "complaint"),
    [
        (["--temperature", "hot"], 2, "--temperature cannot be 'hot'"),
        (["--top-p", "0"], 2, "top_p"),
        (["--raw", "--system", "x"], 2, "--raw"),
    ],
)
def test_flags_that_make_no_sense_are_refused(model: str, argv: list[str], code: int, complaint: str) -> None:
    got, _, err = nomoat("run", model, "hello", *argv)
    assert got == code and complaint in err


def test_a_model_that_is_not_there_is_exit_code_3() -> None:
    code, _, err = nomoat("run", "nobody", "hello")
    assert code == 3 and "no base named 'nobody'" in err
