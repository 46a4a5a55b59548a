"""llama.cpp's token ids, through the xllamacpp server in a process of its own.

Run as a program: ``llama_cpp_tokens.py MODEL.gguf LAST_ID`` with JSON ``[[lines], parse_special]`` on stdin.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

BATCH = 2000


def llama_cpp_tokens(model: Path, lines: list[str], *, vocab_size: int, specials: bool = True) -> list[list[int]]:
    """The ids of each line, without BOS. The last id of the vocabulary must not occur in them."""
    pytest.importorskip("xllamacpp")
    done = subprocess.run(
        [sys.executable, __file__, str(model), str(vocab_size - 1)],
        input=json.dumps([lines, specials]),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    import xllamacpp

    model, separator = sys.argv[1], int(sys.argv[2])
    lines, specials = json.load(sys.stdin)
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 64, 1, 1
    settings.warmup = settings.fit_params = False
    settings.verbosity = 0
    server = xllamacpp.Server(settings)
    found: list[list[int]] = []
    for first in range(0, len(lines), BATCH):
        content: list[str | int] = []
        for line in lines[first : first + BATCH]:
            content += [line, separator]
        body = json.dumps({"content": content, "add_special": False, "parse_special": specials}).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            tokens = json.load(answer)["tokens"]
        line_ids: list[int] = []
        for token in tokens:
            if token == separator:
                found.append(line_ids)
                line_ids = []
            else:
                line_ids.append(token)
    assert len(found) == len(lines), (len(found), len(lines))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
