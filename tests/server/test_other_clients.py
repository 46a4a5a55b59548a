"""Clients that bring large trees of their own: three in an environment apart, so that they choose none of our versions.

``make test`` makes that environment and names its Python in ``NOMOAT_TEST_CLIENTS``; elsewhere our own is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nomoat.engine.names import open_stack
from nomoat.engine.score import score
from nomoat.model.template import Encoded

CLIENTS = os.environ.get("NOMOAT_TEST_CLIENTS", "")
QUESTION = "Question: Which of these is a gas?\nAnswer:"
CHOICES = [" air", " iron", " a stone", " the sea"]

LITELLM = """
import json, sys, litellm
ask = {
    "model": "openai/tiny+odd",
    "messages": [{"role": "user", "content": "hello"}],
    "api_base": sys.argv[1] + "/v1",
    "api_key": "none",
    "temperature": 0,
    "max_tokens": 6,
}
whole = litellm.completion(**ask).choices[0].message.content
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**ask, stream=True))
print(json.dumps([whole, streamed]))
"""

LANGCHAIN = """
import json, sys
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="odd", base_url=sys.argv[1] + "/v1", api_key="none", temperature=0, max_tokens=30)
whole = model.invoke("hello")
streamed = "".join(str(chunk.content) for chunk in model.stream("hello"))
schema = {
    "title": "Answer",
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
answer = model.with_structured_output(schema, method="json_schema").invoke("hello")
print(json.dumps([whole.content, streamed, whole.usage_metadata["output_tokens"], answer]))
"""


def test_litellm_completes_and_streams(live: Any) -> None:
    whole, streamed = json.loads(_client("litellm", "-c", LITELLM, live.url))
    assert streamed == whole and whole


def test_langchain_invokes_streams_and_structures(live: Any) -> None:
    whole, streamed, tokens, answer = json.loads(_client("langchain_openai", "-c", LANGCHAIN, live.url))
    assert tokens == 30 and streamed == whole
    assert set(answer) == {"ok"}


def test_llm_prompts_through_its_extra_models_file(live: Any, tmp_path: Path) -> None:
    rows = f"- model_id: mine\n  model_name: tiny+odd:0.5\n  api_base: {live.url}/v1\n  api_key_name: none\n"
    (tmp_path / "extra-openai-models.yaml").write_text(rows)
    words = ("-m", "mine", "hello", "-o", "max_tokens", "6", "--no-log", "--key", "none")
    assert _client("llm", "-m", "llm", *words, home=tmp_path).strip()


def _client(module: str, *words: str, home: Path | None = None) -> str:
    """What a Python that has ``module`` prints; where an environment is named, it must have it."""
    python = CLIENTS or sys.executable
    if not CLIENTS:
        pytest.importorskip(module)
    # litellm fetches prices when it is imported, unless told not to.
    more = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"} | ({} if home is None else {"LLM_USER_PATH": str(home)})
    without = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_PRELOAD")}
    done = subprocess.run([python, *words], env=without | more, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lm_eval_reads_log_likelihoods_that_equal_ours(live: Any) -> None:
    """Its ``local-completions`` sends ids with ``echo`` and reads the scores of the continuation."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    folder = live.store.path("bases", "tiny")
    model = LocalCompletionsAPI(
        base_url=f"{live.url}/v1/completions", model="tiny+odd:0.5", tokenizer=str(folder), batch_size=2, max_length=512
    )
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(QUESTION, choice), idx=place)
        for place, choice in enumerate(CHOICES)
    ]
    found = model.loglikelihood(asked)
    base, worn = open_stack(live.store, "tiny+odd:0.5")
    for (total, greedy), choice in zip(found, CHOICES):
        prompt, answer = base.tokenizer.encode(QUESTION), base.tokenizer.encode(choice)
        row = Encoded([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        ours = score(base, [row], worn)[0]
        assert total == pytest.approx(ours.total, abs=1e-3)
        assert greedy == all(ours.greedy)


def test_lm_eval_generates_until_a_stop(live: Any) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    folder = live.store.path("bases", "tiny")
    model = LocalCompletionsAPI(
        base_url=f"{live.url}/v1/completions", model="tiny", tokenizer=str(folder), batch_size=1, max_length=512
    )
    settings = {"until": ["\n"], "max_gen_toks": 8, "temperature": 0}
    asked = [Instance(request_type="generate_until", doc={}, arguments=(QUESTION, settings), idx=0)]
    reply = live.post("/v1/completions", model="tiny", prompt=QUESTION, max_tokens=8, temperature=0, stop=["\n"]).json()
    assert model.generate_until(asked)[0] == reply["choices"][0]["text"]
    assert json.dumps(reply)
