"""``nomoat chat --server URL``: the same talk, answered by a server that speaks OpenAI's API."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from nomoat.cli.environment import Environment
from nomoat.core.errors import NetworkError, NomoatError, UsageError
from nomoat.engine.sampling import Sampling

_START = "nomoat serve BASE starts a server; its greeting names the URL"
_TIMEOUT = httpx.Timeout(10, read=600)  # a long prompt on a slow machine is silent for minutes


@dataclasses.dataclass(slots=True)
class RemoteTalk:
    """A conversation with a server: lines in, answers out."""

    env: Environment
    http: httpx.Client
    model: str
    sampling: Sampling
    messages: list[dict[str, str]]

    def answer(self, text: str, *, as_json: bool) -> None:
        """Stream an answer. Ctrl-C ends it early and keeps what was said."""
        asked = [*self.messages, {"role": "user", "content": text}]
        said, reason = "", "interrupted"
        try:
            for piece, ended in self._pieces(asked):
                said += piece
                reason = ended or reason
                if not as_json:
                    self.env.print(piece, end="")
        except KeyboardInterrupt:
            self.env.say("\n(stopped)")
        self.messages = [*asked, {"role": "assistant", "content": said}]
        record = {"record": "answer", "text": said, "finish_reason": reason}
        self.env.print(json.dumps(record, ensure_ascii=False) if as_json else "")

    def command(self, word: str, rest: str) -> None:
        """One line that begins with a slash."""
        commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/help": (lambda _: self._help(commands), "this list"),
            "/reset": (self._reset, "forget what was said; the system message stays"),
            "/system": (self._system, "TEXT: the system message; without text, none"),
            "/model": (self._model, "NAME: answer as this model from now on, such as base+a:0.5+b"),
            "/models": (self._models, "what the server offers"),
        }
        if word not in commands:
            raise UsageError(f"no command {word}", hint="/help; a message that begins with / is written //")
        commands[word][0](rest)

    def _pieces(self, messages: list[dict[str, str]]) -> Iterator[tuple[str, str | None]]:
        body = {"model": self.model, "messages": messages, "stream": True, **_drawing(self.sampling)}
        with _told(self.http), self.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                reply.read()
                raise _refusal(reply)
            for line in reply.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield _read_chunk(json.loads(line.removeprefix("data: ")))

    def _help(self, commands: dict[str, tuple[Callable[[str], None], str]]) -> None:
        for word, (_, what) in commands.items():
            self.env.say(f"  {word:<10}{what}")
        self.env.say("  /quit     leave (Ctrl-D too); Ctrl-C stops an answer")

    def _reset(self, _: str) -> None:
        self.messages = [message for message in self.messages if message["role"] == "system"]
        self.env.say("forgotten")

    def _system(self, text: str) -> None:
        spoken = [message for message in self.messages if message["role"] != "system"]
        self.messages = ([{"role": "system", "content": text}] if text else []) + spoken

    def _model(self, name: str) -> None:
        self.model = name or self.model
        self.env.say(self.model)

    def _models(self, _: str) -> None:
        for name in served_models(self.http):
            self.env.say(f"{'*' if name == self.model else ' '} {name}")


def run_remote(args: argparse.Namespace, env: Environment, sampling: Sampling, lines: Iterator[str]) -> int:
    """Talk with the server at ``args.server`` until the lines end."""
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = args.server.rstrip("/").removesuffix("/v1")
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT) as http:
        model = args.model or served_models(http)[0]
        talk = RemoteTalk(
            env, http, model, sampling, [{"role": "system", "content": args.system}] if args.system else []
        )
        env.say(f"{model} at {url}. /help lists the commands, Ctrl-D leaves.")
        for line in lines:
            if line.strip() == "/quit":
                break
            try:
                _take(talk, line, as_json=args.json)
            except NomoatError as error:
                env.say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    return 0


def _take(talk: RemoteTalk, line: str, *, as_json: bool) -> None:
    if not line.strip():
        return
    if line.startswith("/") and not line.startswith("//"):
        word, _, rest = line.strip().partition(" ")
        talk.command(word, rest.strip())
    else:
        talk.answer(line.removeprefix("/") if line.startswith("//") else line, as_json=as_json)


def served_models(http: httpx.Client) -> list[str]:
    """The names a server offers, its first first. Raises ``NetworkError``."""
    with _told(http):
        reply = http.get("/v1/models")
    if reply.status_code != 200:
        raise _refusal(reply)
    try:
        names = [str(row["id"]) for row in reply.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise NetworkError(f"{http.base_url} does not speak OpenAI's API", hint=_START) from error
    if not names:
        raise NetworkError("the server offers no model")
    return names


def _drawing(sampling: Sampling) -> dict[str, Any]:
    """How to draw, as far as every server understands it; ours takes the rest too."""
    values = dataclasses.asdict(sampling)
    values["stop"] = list(sampling.stop) or None
    standard = dataclasses.asdict(Sampling()) | {"stop": None}
    kept = ("temperature", "max_tokens")
    return {key: value for key, value in values.items() if key in kept or value != standard[key]}


def _read_chunk(chunk: dict[str, Any]) -> tuple[str, str | None]:
    if "error" in chunk:
        raise NetworkError(f"the server: {chunk['error'].get('message', chunk['error'])}")
    choices = chunk.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or "", choices[0].get("finish_reason")


def _refusal(reply: httpx.Response) -> NetworkError:
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = reply.text[:200]
    return NetworkError(f"the server refuses ({reply.status_code}): {message}")


@contextlib.contextmanager
def _told(http: httpx.Client) -> Iterator[None]:
    """Errors of the connection in our words."""
    try:
        yield
    except httpx.HTTPError as error:
        raise NetworkError(f"{http.base_url} cannot be reached: {error}", hint=_START) from error
