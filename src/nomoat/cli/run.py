"""``nomoat run MODEL "prompt"``: one answer, streamed to stdout."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.core.errors import UsageError
from nomoat.core.records import Done, as_json
from nomoat.engine.sampling import Sampling

if TYPE_CHECKING:
    from nomoat.engine.generate import Request
    from nomoat.model.delta import Stack
    from nomoat.model.load import Base

MODEL_HELP = "a base, an adapter, or a stack: smollm2-135m+chat:0.8+sql; a path to a GGUF file works too"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, PROMPT and how to draw."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("prompt", metavar="PROMPT", help="what to answer; - reads it from stdin")
    parser.add_argument("--system", metavar="TEXT", default="", help="a system message before the prompt")
    parser.add_argument("--raw", action="store_true", help="go on from the prompt as it is, without the chat template")
    add_sampling_flags(parser)


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per option of ``Sampling``; ``--stop`` may be given several times."""
    add_flags(parser, Sampling, group="how to draw the next token", skip=("stop",))
    parser.add_argument(
        "--stop",
        action="append",
        default=argparse.SUPPRESS,
        metavar="TEXT",
        help="end the answer before this text; may be given several times",
    )


def run(args: argparse.Namespace, env: Environment) -> int:
    """Stream the answer as text, or with ``--json`` as one line a piece and a last line with the whole."""
    from nomoat.engine.generate import Engine
    from nomoat.engine.names import open_stack

    sampling = read_flags(args, Sampling)
    prompt = env.stdin.read() if args.prompt == "-" else args.prompt
    if args.raw and args.system:
        raise UsageError("--raw takes the prompt as it is and has no place for --system")
    base, stack = open_stack(env.store, args.model)
    warn_of_missing(env, args.model)
    request = _request(base, stack, sampling, prompt, args)
    started, pieces = time.perf_counter(), []
    for piece in Engine(base, max_batch=1).stream([request]):
        pieces.append(piece)
        if args.json:
            env.print(json.dumps({"record": "piece", "text": piece.text}, ensure_ascii=False))
        else:
            env.print(piece.text, end="")
    if not args.json:
        env.print("")
        return 0
    result = {
        "text": "".join(piece.text for piece in pieces),
        "finish_reason": pieces[-1].finish_reason,
        "prompt_tokens": len(request.tokens),
        "tokens": len(pieces),
        "seconds": round(time.perf_counter() - started, 3),
    }
    env.print(json.dumps(as_json(Done("run", None, result)), ensure_ascii=False))
    return 0


def warn_of_missing(env: Environment, model: str) -> None:
    """Say where an adapter is to be worn without those that it learned on top of."""
    from nomoat.engine.names import missing_under

    missing = missing_under(env.store, model)
    if missing:
        env.say(f"warning: {missing}")


def _request(base: Base, stack: Stack, sampling: Sampling, prompt: str, args: argparse.Namespace) -> Request:
    from nomoat.engine.generate import Request, text_ids
    from nomoat.model.template import prompt_ids

    if args.raw:
        return Request(text_ids(base, prompt), sampling, stack)
    messages = [{"role": "system", "content": args.system}] if args.system else []
    messages.append({"role": "user", "content": prompt})
    return Request(prompt_ids(base.tokenizer, base.template, messages), sampling, stack)
