"""``nomoat serve`` as a process of its own, ``nomoat chat --server``, and what vLLM is told."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from peft import PeftConfig

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from served import add_adapter
from tiny import tiny_base, tiny_folder


@pytest.fixture
def home() -> Store:
    store = Store()
    base = dataclasses.replace(tiny_base(store.path("bases", "tiny"), tie_word_embeddings=False), name="tiny")
    add_adapter(store, base, "odd", 1)
    return store


def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
    env = Environment(stdin=io.StringIO(stdin), stdout=io.StringIO(), stderr=io.StringIO())
    code = main(list(words), env)
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return code, env.stdout.getvalue(), env.stderr.getvalue()


@pytest.fixture
def served(home: Store) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "nomoat", "serve", "tiny", "--port", "0", "--cache-mb", "16", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.kill()
        process.communicate()


def test_it_serves_until_it_is_interrupted_and_ends_well(served: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = served
    assert httpx.get(f"{url}/health", timeout=60).json() == {"status": "ok"}
    code, out, err = run("chat", "--server", url, "--max-tokens", "4", stdin="hello\n/models\n/model odd\nagain\n")
    assert code == 0 and "* tiny" in err and len(out) > 2
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 0 and "stopped" in told and "Traceback" not in told


def test_an_answer_that_outlasts_the_server_ends_with_a_word(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "long", max_position_embeddings=16384, tie_word_embeddings=False)
    command = [sys.executable, "-m", "nomoat", "serve", str(base), "--port", "0", "--cache-mb", "64", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 16000}
    without_end = {"logit_bias": {"0": -100, "2": -100}}
    told: list[str] = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body | without_end, timeout=120) as reply:
        for line in filter(None, reply.iter_lines()):  # an event, without the empty line behind it
            told.append(line)
            if len(told) in (3, 300):  # the second time does not want to wait for the answer
                process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert "error" in json.loads(told[-2].removeprefix("data: ")) and told[-1] == "data: [DONE]"
    assert process.returncode == 0 and "stopped" in said
    assert "Traceback" not in said and "Cancel" not in said


def test_the_start_message_says_how_to_connect(home: Store) -> None:
    command = [sys.executable, "-m", "nomoat", "serve", "tiny+odd:0.5", "--port", "0", "--cache-mb", "16"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    while not lines or "Ctrl-C" not in lines[-1]:
        lines.append(process.stderr.readline())
    process.kill()
    process.communicate()
    text = "".join(lines)
    assert "tiny+odd:0.5" in text and "OPENAI_BASE_URL=http://127.0.0.1:" in text and "OLLAMA_HOST" in text


def test_chat_without_a_model_or_a_server_says_what_to_type(home: Store) -> None:
    code, _, err = run("chat")
    assert code == 2 and "--server URL" in err


def test_a_server_that_is_not_there_is_said_so(home: Store) -> None:
    code, _, err = run("chat", "--server", "http://127.0.0.1:9", stdin="hello\n")
    assert code == 7 and "http://127.0.0.1:9 cannot be reached" in err and "nomoat serve" in err


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")


def test_a_server_of_something_else_is_said_to_be_so(home: Store) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        code, _, err = run("chat", "--server", f"http://127.0.0.1:{other.server_port}", stdin="hello\n")
        other.shutdown()
    assert code == 7 and "does not speak OpenAI's API" in err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--host", "0.0.0.0"), "--api-key"),
        (("--port", "70000"), "65535"),
        (("--stacks", "mix"), "NAME=STACK"),
        (("--stacks", "mix=nobody"), "nobody"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(
    home: Store, flags: tuple[str, ...], word: str
) -> None:
    code, _, err = (
        run("serve", "tiny", "--port", "0", *flags) if "--port" not in flags else run("serve", "tiny", *flags)
    )
    assert code != 0 and word in err


def test_a_port_that_is_taken_is_said_so(home: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", "tiny", "--port", str(taken.getsockname()[1]))
    assert code == 2 and "cannot listen" in err


def test_vllm_is_told_of_the_folder_and_of_every_adapter(home: Store) -> None:
    code, out, err = run("serve", "tiny", "--print-vllm", "--stacks", "mix=odd:0.5")
    words = out.split()
    assert code == 0 and words[:3] == ["vllm", "serve", str(home.path("bases", "tiny"))]
    place = words.index("--lora-modules")
    name, _, folder = words[place + 1].partition("=")
    assert name == "odd" and words[words.index("--max-lora-rank") + 1] == "8"
    assert "one adapter a prompt" in err
    assert PeftConfig.from_pretrained(folder).r == 4 and (Path(folder) / "adapter_model.safetensors").is_file()
