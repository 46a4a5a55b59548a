"""``nomoat serve BASE``: an OpenAI (and Ollama) API and a chat page, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import TYPE_CHECKING

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.run import MODEL_HELP, warn_of_missing
from nomoat.engine.options import ServiceOptions
from nomoat.serve.options import ServeOptions

if TYPE_CHECKING:
    from nomoat.serve.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BASE, how to listen, and how much the engine may take."""
    parser.add_argument("model", metavar="BASE", help=MODEL_HELP)
    add_flags(parser, ServeOptions, group="the server")
    add_flags(parser, ServiceOptions, group="the engine")
    parser.add_argument("--print-vllm", action="store_true", help="print what vLLM needs to serve the same, and stop")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Serve until Ctrl-C."""
    from nomoat.serve.run import listening, opened, server_for, url_of

    options, engine = read_flags(args, ServeOptions), read_flags(args, ServiceOptions)
    if args.print_vllm:
        return _print_vllm(args.model, options, env, as_json=args.json)
    warn_of_missing(env, args.model)
    desk_of = opened(env.store, args.model, options, engine, env.say)
    with listening(options.host, options.port) as listener, desk_of as desk:
        _greet(desk, url_of(listener), env, as_json=args.json)
        # uvicorn ends every answer and raises the signal again: nothing comes of it where they are ignored (nohup)
        with contextlib.suppress(KeyboardInterrupt):
            server_for(desk).run(sockets=[listener])
        env.say("\nstopped")
    return 0


def _greet(desk: Desk, url: str, env: Environment, *, as_json: bool) -> None:
    """Say where it is, what it offers and how to connect."""
    shelf = desk.shelf
    adapters, key = shelf.names(), desk.options.api_key or "none"
    if as_json:
        record = {"record": "serving", "url": url, "base": shelf.base.name, "adapters": adapters}
        env.print(json.dumps(record, ensure_ascii=False))
        return
    env.say(f"nomoat serves {shelf.spelled(shelf.default)}, {desk.context:,} tokens of context")
    env.say(f"  chat     {url}/")
    env.say(f"  OpenAI   {url}/v1    OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}")
    env.say(f"  Ollama   {url}       OLLAMA_HOST={url}")
    env.say(f"  models   {', '.join([shelf.base.name, *shelf.stacks, *adapters])}")
    if adapters:
        env.say(f"  a stack is a model name: {shelf.base.name}+{adapters[0]}:0.8")
    env.say("Ctrl-C stops it.")


def _print_vllm(spec: str, options: ServeOptions, env: Environment, *, as_json: bool) -> int:
    from nomoat.engine.names import open_stack
    from nomoat.serve.shelf import Shelf
    from nomoat.serve.vllm import vllm_plan

    base, _ = open_stack(env.store, spec)
    shelf = Shelf(env.store, base, options)
    folders = {name: shelf.folder(name) for name in shelf.names()}
    plan = vllm_plan(base.path, base.name, folders, options, context=base.decoder.config.max_seq_len)
    if as_json:
        record = {"record": "vllm", "arguments": plan.arguments, "notes": plan.notes}
        env.print(json.dumps(record, ensure_ascii=False))
        return 0
    env.print(plan.command)
    for note in plan.notes:
        env.say(f"note: {note}")
    return 0
