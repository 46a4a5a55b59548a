"""Chat completions and their kin over HTTP: what is asked is what the engine does, for every stack."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nomoat.core.store import Store
from nomoat.engine.chat import Session
from nomoat.engine.names import open_stack
from nomoat.engine.sampling import Sampling
from nomoat.serve.catalogue import listing

HELLO = [{"role": "user", "content": "hello"}]


def said(live: Any, model: str, **more: Any) -> str:
    reply = live.post(
        "/v1/chat/completions", model=model, messages=HELLO, temperature=0, **({"max_tokens": 8} | more)
    ).json()
    return str(reply["choices"][0]["message"]["content"])


def directly(store: Store, model: str) -> str:
    base, worn = open_stack(store, model)
    pieces = Session(base, stack=worn).ask("hello", Sampling(max_tokens=8))
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("model", ["tiny", "odd", "even:0.5", "tiny+odd", "tiny+odd:0.5+even", "odd+even:-1"])
def test_a_stack_is_a_model_name_and_says_what_it_says_alone(live: Any, model: str) -> None:
    assert said(live, model) == directly(live.store, model)


def test_a_named_stack_is_that_stack_and_the_reply_spells_it_out(live: Any) -> None:
    assert said(live, "both") == directly(live.store, "tiny+odd:0.5+even")
    assert live.post("/v1/chat/completions", model="both", messages=HELLO, max_tokens=1).json()["model"] == (
        "tiny+odd:0.5+even"
    )


def test_models_are_listed_with_their_parents(live: Any) -> None:
    rows = {row["id"]: row for row in live.http.get("/v1/models").json()["data"]}
    assert list(rows) == ["tiny", "both", "even", "odd"]
    assert rows["tiny"]["parent"] is None and rows["both"]["parent"] == "tiny"
    assert rows["both"]["root"] == "tiny+odd:0.5+even"
    assert live.http.get("/v1/models/tiny+odd:0.3").json()["root"] == "tiny+odd:0.3"
    assert [row["id"] for row in listing(live.desk)] == list(rows)


def test_a_stream_says_the_same_and_ends_with_usage(live: Any) -> None:
    body = {"model": "odd", "messages": HELLO, "temperature": 0, "max_tokens": 8}
    reply = live.post("/v1/chat/completions", **body, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == said(live, "odd")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]].count("length") == 1
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 8


def test_the_same_seed_says_the_same_and_choices_differ(live: Any) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "n": 3, "seed": 5, "temperature": 1.5}
    first, again = (live.post("/v1/chat/completions", **body).json()["choices"] for _ in range(2))
    texts = [choice["message"]["content"] for choice in first]
    assert texts == [choice["message"]["content"] for choice in again]
    assert len(set(texts)) == 3 and [choice["index"] for choice in first] == [0, 1, 2]


def test_a_stop_string_ends_the_answer_before_it(live: Any) -> None:
    whole = said(live, "tiny")
    stop = whole[3]
    assert said(live, "tiny", stop=stop) == whole.split(stop)[0]


def test_a_bias_of_100_decides_the_token(live: Any) -> None:
    token = live.post("/tokenize", content="Z", add_special_tokens=False).json()["tokens"][0]
    assert said(live, "tiny", logit_bias={str(token): 100}) == "Z" * 8


def test_chat_logprobs_name_the_drawn_token_first_when_greedy(live: Any) -> None:
    reply = live.post(
        "/v1/chat/completions", model="tiny", messages=HELLO, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    ).json()
    entries = reply["choices"][0]["logprobs"]["content"]
    assert len(entries) == 4
    for entry in entries:
        tops = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True)
        assert entry["top_logprobs"][0]["token"] == entry["token"]
        assert entry["logprob"] == pytest.approx(tops[0], abs=1e-5)


def test_echo_with_no_new_tokens_scores_the_prompt_as_the_evaluation_does(live: Any) -> None:
    from nomoat.engine.score import score
    from nomoat.model.template import Encoded

    ids = live.post("/tokenize", content="to be or not", add_special_tokens=False).json()["tokens"]
    base, worn = open_stack(live.store, "tiny+odd:0.5")
    expected = score(base, [Encoded(ids, [False] + [True] * (len(ids) - 1))], worn)[0].logprobs
    reply = live.post("/v1/completions", model="tiny+odd:0.5", prompt=[ids], max_tokens=0, echo=True, logprobs=1).json()
    choice = reply["choices"][0]
    assert choice["text"] == "to be or not"
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(expected, abs=1e-3)
    assert choice["logprobs"]["text_offset"] == list(range(len(ids)))
    assert reply["usage"]["completion_tokens"] == 0


def test_completions_take_texts_and_ids_and_answer_in_their_order(live: Any) -> None:
    ids = [live.post("/tokenize", content=word).json()["tokens"] for word in ("one", "two")]
    by_text = live.post("/v1/completions", model="tiny", prompt=["one", "two"], max_tokens=5, temperature=0).json()
    by_ids = live.post("/v1/completions", model="tiny", prompt=ids, max_tokens=5, temperature=0).json()
    assert [c["text"] for c in by_text["choices"]] == [c["text"] for c in by_ids["choices"]]
    assert by_text["usage"] == {**by_ids["usage"], "prompt_tokens_details": by_text["usage"]["prompt_tokens_details"]}


def test_an_over_long_prompt_names_the_limit_and_truncation_is_told(live: Any) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 2000}], "max_tokens": 4}
    refused = live.post("/v1/chat/completions", **body)
    assert refused.status_code == 400 and "512" in refused.json()["error"]["message"]
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    cut = live.post("/v1/chat/completions", **body, truncate_prompt_tokens=-1)
    usage = cut.json()["usage"]
    assert cut.status_code == 200 and usage["prompt_tokens"] == 508
    assert usage["prompt_tokens_details"]["truncated_tokens"] > 1000


def test_embeddings_are_of_length_one_and_follow_the_stack(live: Any) -> None:
    def vectors(model: str) -> list[list[float]]:
        data = live.post("/v1/embeddings", model=model, input=["a", "b"]).json()["data"]
        return [row["embedding"] for row in data]

    plain, worn = vectors("tiny"), vectors("odd")
    assert sum(x * x for x in plain[0]) == pytest.approx(1, abs=1e-4)
    assert plain[0] != pytest.approx(plain[1], abs=1e-3) and plain[0] != pytest.approx(worn[0], abs=1e-3)


def test_a_client_that_leaves_frees_its_place(live: Any) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 480, "stream": True, "temperature": 2, "n": 4}
    with live.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_bytes())
    for _ in range(200):
        if live.desk.service.stats().running == 0:
            return
        said(live, "tiny", max_tokens=1)
    raise AssertionError("the answers of a client that left still run")


def test_tokens_go_there_and_back(live: Any) -> None:
    tokens = live.post("/tokenize", content="grüße 🙂").json()["tokens"]
    assert live.post("/detokenize", tokens=tokens).json()["content"] == "grüße 🙂"


def test_health_and_metrics_say_how_things_are(live: Any) -> None:
    def timed() -> float:
        lines = live.http.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("nomoat_first_token_seconds_count")))

    before = timed()
    said(live, "tiny")
    assert live.http.get("/health").json() == {"status": "ok"}
    live.post("/v1/completions", prompt="x", max_tokens=2, stream=True)
    live.post("/v1/responses", input="x", max_output_tokens=2)
    live.post("/api/generate", model="tiny", prompt="x", options={"num_predict": 2})
    assert timed() == before + 4  # every way to ask is timed, once
    text = live.http.get("/metrics").text
    assert 'nomoat_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert "nomoat_generated_tokens" in text and "nomoat_first_token_seconds_count" in text
