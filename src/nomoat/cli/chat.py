"""``nomoat chat MODEL``: talk, with history, and with adapters put on and off while talking."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nomoat.cli.environment import Environment
from nomoat.cli.flags import read_flags
from nomoat.cli.run import MODEL_HELP, add_sampling_flags, warn_of_missing
from nomoat.core.errors import NomoatError, UsageError
from nomoat.core.files import disk_errors
from nomoat.engine.sampling import Sampling

if TYPE_CHECKING:
    from nomoat.engine.chat import Session
    from nomoat.engine.names import Worn

HISTORY_FILE = "chat_history"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and how to draw."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help=MODEL_HELP)
    parser.add_argument("--server", metavar="URL", help="talk with a running server: http://127.0.0.1:7860")
    parser.add_argument("--system", metavar="TEXT", default="", help="a system message for the conversation")
    parser.add_argument("--max-context", metavar="N", type=int, help="the longest conversation, in tokens")
    add_sampling_flags(parser)


def run(args: argparse.Namespace, env: Environment) -> int:
    """Talk until /quit or the end of input."""
    sampling = read_flags(args, Sampling)
    if args.server:
        from nomoat.cli.chat_remote import run_remote

        with _line_history(env):
            return run_remote(args, env, sampling, _messages(env))
    if args.model is None:
        raise UsageError("which model?", hint="nomoat chat MODEL, or nomoat chat --server URL")
    from nomoat.engine.chat import Session
    from nomoat.engine.names import open_stack

    base, worn = open_stack(env.store, args.model)
    warn_of_missing(env, args.model)
    session = Session(base, stack=worn, max_context=args.max_context)
    session.system = args.system
    talk = _Talk(env, session, worn, sampling, as_json=args.json)
    if env.stdin.isatty():
        env.say(f"{base.name}, {session.context:,} tokens of context. /help lists the commands, Ctrl-D leaves.")
    with _line_history(env):
        talk.listen()
    return 0


class _Talk:
    """The conversation at a terminal or a pipe: lines in, answers and talk out."""

    def __init__(self, env: Environment, session: Session, worn: Worn, sampling: Sampling, *, as_json: bool) -> None:
        self._env = env
        self._session = session
        self._worn = worn
        self._sampling = sampling
        self._as_json = as_json
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/help": (self._help, "this list"),
            "/reset": (self._reset, "forget what was said; the system message stays"),
            "/save": (self._save, "FILE: add the conversation to a JSONL file, one row, ready for nomoat data"),
            "/system": (self._system, "TEXT: the system message; without text, none"),
            "/stack": (self._stack, "a:0.5+b: wear these adapters from now on; without a name, none"),
            "/adapters": (self._adapters, "what can be worn; * is worn now"),
            "/temperature": (self._temperature, "X: 0 takes the likeliest token"),
            "/show": (self._show, "tokens, speed and settings"),
        }

    def listen(self) -> None:
        """Read messages and commands until the end; an error is told and the talk goes on."""
        for message in _messages(self._env):
            if message.strip() == "/quit":
                return
            try:
                self._take(message)
            except NomoatError as error:
                self._env.say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))

    def _take(self, message: str) -> None:
        if not message.strip():
            return
        if not message.startswith("/") or message.startswith("//"):
            self._answer(message.removeprefix("/") if message.startswith("//") else message)
            return
        word, _, rest = message.strip().partition(" ")
        if word not in self._commands:
            raise UsageError(f"no command {word}", hint="/help; a message that begins with / is written //")
        self._commands[word][0](rest.strip())

    def _answer(self, text: str) -> None:
        """Stream an answer. Ctrl-C ends it early and keeps what was said."""
        answer, reason = "", "interrupted"
        with contextlib.closing(self._session.ask(text, self._sampling)) as pieces:
            try:
                for piece in pieces:
                    answer += piece.text
                    reason = piece.finish_reason or reason
                    if not self._as_json:
                        self._env.print(piece.text, end="")
            except KeyboardInterrupt:
                self._env.say("\n(stopped)")
        if self._as_json:
            record = {"record": "answer", "text": answer, "finish_reason": reason}
            self._env.print(json.dumps(record, ensure_ascii=False))
        else:
            self._env.print("")
        if reason == "length":
            self._env.say("(cut off: the answer reached --max-tokens or the end of the context)")

    def _help(self, _text: str) -> None:
        for word, (_command, what) in self._commands.items():
            self._env.say(f"  {word:<13}{what}")
        self._env.say("  /quit        leave (Ctrl-D too); Ctrl-C stops an answer")
        self._env.say("  a line that ends with \\ goes on in the next one")

    def _reset(self, _: str) -> None:
        self._session.reset()
        self._env.say("forgotten")

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("/save needs a file", hint="/save talk.jsonl")
        if not self._session.messages:
            raise UsageError("nothing was said yet")
        path = Path(name).expanduser()
        row = json.dumps({"messages": self._session.messages}, ensure_ascii=False)
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(row + "\n")
        self._env.say(f"added to {path}")

    def _system(self, text: str) -> None:
        self._session.system = text
        self._env.say("system message set" if text else "no system message")

    def _stack(self, text: str) -> None:
        from nomoat.engine.names import open_adapters, parse_adapters

        self._worn = open_adapters(self._env.store, self._session.base, parse_adapters(text))
        self._session.stack = self._worn
        self._env.say(self._model_name())

    def _adapters(self, _: str) -> None:
        from nomoat.engine.adapter_folders import bases_of_adapter

        worn = {adapter.name for adapter, _ in self._worn}
        names = self._env.store.names("adapters")
        for name in names:
            base = bases_of_adapter(self._env.store.find("adapters", name))[0]
            self._env.say(f"{'*' if name in worn else ' '} {name}  (on {base})")
        if not names:
            self._env.say("no adapters yet; nomoat tune makes one")

    def _temperature(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            raise UsageError(f"the temperature cannot be {text!r}", hint="/temperature 0.7") from None
        self._sampling = dataclasses.replace(self._sampling, temperature=value)
        self._env.say(f"temperature {value:g}")

    def _show(self, _: str) -> None:
        session, last = self._session, self._session.last
        self._env.say(f"model        {self._model_name()}")
        self._env.say(f"temperature  {self._sampling.temperature:g}")
        self._env.say(f"messages     {len(session.messages)}")
        if last is not None:
            used = last.prompt_tokens + last.tokens
            self._env.say(f"context      {used:,} of {session.context:,} tokens after the last answer")
            self._env.say(f"prompt       {last.prompt_tokens:,} tokens, {last.reused_tokens:,} of them reused")
            self._env.say(f"answer       {last.tokens:,} tokens, first after {last.first_token_s:.2f} s")
            self._env.say(f"speed        {last.tokens_per_second:.1f} tokens/s")

    def _model_name(self) -> str:
        worn = [adapter.name + (f":{w:g}" if w != 1 else "") for adapter, w in self._worn]
        return "+".join([self._session.base.name, *worn])


def _messages(env: Environment) -> Iterator[str]:
    """Messages until the end of input; a trailing backslash joins the next line to the message."""
    held: list[str] = []
    while (line := _read_line(env, "… " if held else "> ")) is not None:
        if line.endswith("\\"):
            held.append(line[:-1])
            continue
        yield "\n".join([*held, line])
        held = []
    if held:
        yield "\n".join(held)


def _read_line(env: Environment, prompt: str) -> str | None:
    """One line without its end, None at the end of input. Ctrl-C at a terminal's prompt starts a new line."""
    if not env.stdin.isatty():
        line = env.stdin.readline()
        return line.rstrip("\r\n") if line else None
    while True:
        try:
            return input(prompt)
        except EOFError:
            env.say("")
            return None
        except KeyboardInterrupt:
            env.say("\n(Ctrl-D leaves)")


@contextlib.contextmanager
def _line_history(env: Environment) -> Iterator[None]:
    """Arrow keys and a history file at a terminal, where Python has readline (it has none on Windows)."""
    if not env.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    path = env.store.home / HISTORY_FILE
    if path.exists():
        try:
            readline.read_history_file(path)
        except OSError as error:
            env.say(f"the line history cannot be read: {error}")
    try:
        yield
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # what was said is for its owner's eyes
            readline.write_history_file(path)
        except OSError as error:
            env.say(f"the line history was not kept: {error}")
