"""The service under load: whatever comes and goes, nothing is left behind; and on a real model, nothing is mixed up."""

from __future__ import annotations

import queue
import random
import threading
import time

import pytest
import torch

import models
from nomoat.core.errors import Busy
from nomoat.engine.generate import Engine, text_ids
from nomoat.engine.options import ServiceOptions
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.service import Service
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.delta import Stack
from nomoat.model.load import Base, load_base
from tiny import tiny_base

TIMEOUT_S = 60
SECONDS = 3.0


def busy_adapter(base: Base, seed: int, std: float, rank: int) -> Adapter:
    adapter = base.new_adapter(AdapterConfig(rank=rank, alpha=rank), seed=seed, name=f"busy{seed}")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=std, generator=torch.Generator().manual_seed(seed))
    return adapter


class Client:
    """One of many: asks, listens, sometimes leaves; remembers what it asked and got."""

    def __init__(self, service: Service, base: Base, stacks: list[Stack], seed: int) -> None:
        self._service, self._base, self._stacks, self._rng = service, base, stacks, random.Random(seed)
        self.answered: list[tuple[Request, list[int]]] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        until, patience = time.monotonic() + SECONDS, time.monotonic() + TIMEOUT_S / 2
        while time.monotonic() < until or (not self.answered and time.monotonic() < patience):
            self._ask()

    def _request(self) -> Request:
        rng = self._rng
        prompt = "common beginning of everything " * rng.randrange(3) + "x" * rng.randrange(1, 120)
        sampling = Sampling(max_tokens=rng.randrange(1, 20), temperature=rng.choice((0.0, 1.0)), seed=rng.randrange(99))
        deadline = rng.choice((None, None, None, 0.001))
        return Request(text_ids(self._base, prompt), sampling, rng.choice(self._stacks), deadline_s=deadline)

    def _ask(self) -> None:
        request, pieces = self._request(), queue.Queue[Piece]()
        try:
            ticket = self._service.submit(request, pieces.put)
        except Busy:
            time.sleep(0.01)
            return
        leaves_after = self._rng.choice((None, None, self._rng.randrange(5)))
        tokens: list[int] = []
        while True:
            piece = pieces.get(timeout=TIMEOUT_S)
            tokens.append(piece.token)
            if piece.finish_reason == "error":
                self.wrong.append(str(piece.error))
            if piece.finish_reason is not None:
                break
            if len(tokens) == leaves_after:
                self._service.cancel(ticket)
                return
        if piece.finish_reason != "deadline":
            self.answered.append((request, tokens))


def test_a_crowd_with_random_stacks_lengths_and_cancels_leaves_nothing_behind(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False)
    adapters = [busy_adapter(base, seed, 0.3, 1 + seed) for seed in range(4)]
    stacks: list[Stack] = [(), *(((one, 1.0),) for one in adapters), ((adapters[0], 0.5), (adapters[3], -0.5))]
    threads_before = threading.active_count()
    service = Service(base, ServiceOptions(max_batch=5, queue=6, max_context=240, cache_mb=0))
    clients = [Client(service, base, stacks, seed) for seed in range(12)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    done = queue.Queue[Piece]()
    service.submit(Request(text_ids(base, "last"), Sampling(max_tokens=1)), done.put)
    assert done.get(timeout=TIMEOUT_S).finish_reason == "length"
    room, scheduler = service._batch._room, service._batch._scheduler
    service.close()
    assert threading.active_count() == threads_before
    assert [client.wrong for client in clients] == [[]] * len(clients)
    assert all(client.answered for client in clients)  # nobody was starved
    assert service._clients == {} and not service._inbox and service.stats().failed == ""
    assert scheduler.idle and not room._guests and not room._announced
    assert len(room._free) + room.kept_pages == room._cache.n_pages  # every page is free or known
    assert all(node.users == 0 for node in room._tree._by_age.values())
    assert room._cache._places == {}
    answered = [pair for client in clients for pair in client.answered]
    for request, tokens in answered[:: 1 + len(answered) // 20]:
        assert Engine(base, max_batch=1).complete([request])[0].tokens == tokens


@pytest.mark.real
def test_four_requests_in_different_adapters_get_on_a_real_model_what_each_gets_alone() -> None:
    base = load_base(models.path("smollm2"))
    stacks: list[Stack] = [((busy_adapter(base, seed, 0.02, 4 * seed + 4), 1.0),) for seed in range(3)]
    stacks.append((stacks[0][0], (stacks[1][0][0], -0.5)))
    prompt = text_ids(base, "Once upon a time, in a village by the sea, there was a")
    requests = [Request(prompt, Sampling(max_tokens=20), stack, top_logprobs=3) for stack in stacks]
    service = Service(base, ServiceOptions(max_batch=4, max_context=512))
    try:
        listeners = [queue.Queue[Piece]() for _ in requests]
        for request, listener in zip(requests, listeners):
            service.submit(request, listener.put)
        together = []
        for listener in listeners:
            pieces = [listener.get(timeout=300)]
            while pieces[-1].finish_reason is None:
                pieces.append(listener.get(timeout=300))
            together.append(pieces)
    finally:
        service.close()
    different = set()
    for request, pieces in zip(requests, together):
        alone = Engine(base, max_batch=1, max_context=512).complete([request])[0]
        assert [piece.token for piece in pieces] == alone.tokens
        assert [piece.logprob for piece in pieces] == pytest.approx(alone.logprobs, abs=1e-4)
        different.add(tuple(round(logprob, 3) for logprob in alone.logprobs))
    assert len(different) == 4
