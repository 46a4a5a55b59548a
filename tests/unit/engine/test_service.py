"""The engine as a service: any thread asks, everybody gets what they would get alone, and nobody falls with another."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

import pytest
import torch

from nomoat.core.errors import Busy, DataError, NomoatError, ResourceError, UsageError
from nomoat.engine.embed import embed
from nomoat.engine.generate import Engine, text_ids
from nomoat.engine.options import ServiceOptions
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import score
from nomoat.engine.service import Service, Ticket
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from tiny import tiny_base

TIMEOUT_S = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False)


def busy_adapter(base: Base, seed: int) -> Adapter:
    adapter = base.new_adapter(AdapterConfig(rank=1 + seed % 5, alpha=16), seed=seed, name=f"busy{seed}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=generator)
    return adapter


@contextlib.contextmanager
def serving(base: Base, **options: object) -> Iterator[Service]:
    service = Service(base, ServiceOptions(**options))  # type: ignore[arg-type]
    try:
        yield service
    finally:
        service.close()


class Listener:
    """Collects one request's pieces."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[Piece] = queue.Queue()

    def __call__(self, piece: Piece) -> None:
        self._pieces.put(piece)

    def next(self) -> Piece:
        return self._pieces.get(timeout=TIMEOUT_S)

    def all(self) -> list[Piece]:
        pieces = [self.next()]
        while pieces[-1].finish_reason is None:
            pieces.append(self.next())
        return pieces


def ask(base: Base, text: str, stack: Stack = EMPTY, n: int = 8, **more: object) -> Request:
    return Request(text_ids(base, text), Sampling(max_tokens=n), stack, **more)  # type: ignore[arg-type]


def answer(service: Service, request: Request) -> list[Piece]:
    listener = Listener()
    service.submit(request, listener)
    return listener.all()


def tokens(pieces: list[Piece]) -> list[int]:
    return [piece.token for piece in pieces]


def alone(base: Base, request: Request) -> list[int]:
    return Engine(base, max_batch=1).complete([request])[0].tokens


def test_requests_from_many_threads_with_many_stacks_get_what_they_get_alone(base: Base) -> None:
    adapters = [busy_adapter(base, seed) for seed in range(1, 6)]
    stacks: list[Stack] = [(), *(((one, 1.0),) for one in adapters), ((adapters[0], 0.5), (adapters[1], -1.0))]
    requests = [ask(base, "same " * (1 + i % 3), stacks[i % len(stacks)], n=4 + i % 7) for i in range(20)]
    got: dict[int, list[Piece]] = {}
    with serving(base, max_batch=6) as service:

        def client(number: int) -> None:
            got[number] = answer(service, requests[number])

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
    for number, request in enumerate(requests):
        assert tokens(got[number]) == alone(base, request)
    assert len({tuple(tokens(pieces)) for pieces in got.values()}) > len(stacks)


def test_a_full_queue_is_busy_and_takes_requests_again_when_it_has_emptied(base: Base) -> None:
    gate, listener = threading.Event(), Listener()

    def slow(piece: Piece) -> None:
        gate.wait(TIMEOUT_S)
        listener(piece)

    with serving(base, max_batch=1, queue=2) as service:
        service.submit(ask(base, "a", n=1), slow)
        others = [Listener() for _ in range(3)]
        with pytest.raises(Busy, match="2 requests"):  # one may have begun before the count was taken
            for other in [*others, Listener()]:
                service.submit(ask(base, "b", n=1), other)
        gate.set()
        assert listener.all()[-1].finish_reason == "length"
        assert others[0].all()[-1].finish_reason == "length"
        assert others[1].all()[-1].finish_reason == "length"
        assert answer(service, ask(base, "c", n=1))[-1].finish_reason == "length"


def test_a_cancelled_request_gets_no_further_pieces_and_its_row_goes_to_the_next(base: Base) -> None:
    with serving(base, max_batch=1) as service:
        listener = Listener()
        ticket = service.submit(ask(base, "go on", n=400), listener)
        listener.next()
        service.cancel(ticket)
        assert len(answer(service, ask(base, "next", n=2))) == 2
        assert service.stats().running + service.stats().queued <= 1
        service.cancel(ticket)
        service.cancel(Ticket(9999, 1, 0))


def test_a_deadline_ends_a_request_with_its_reason(base: Base) -> None:
    with serving(base) as service:
        assert answer(service, ask(base, "late", n=400, deadline_s=0.0))[-1].finish_reason == "deadline"


class Only:
    """Allows one token, as a mask or as packed words."""

    def __init__(self, token: int, size: int, *, packed: bool) -> None:
        mask = torch.zeros(-(-size // 32) * 32, dtype=torch.bool)
        mask[token] = True
        bits = (mask.view(-1, 32).long() << torch.arange(32)).sum(1)
        self._mask = bits.to(torch.int32) if packed else mask

    def allowed(self, output: object) -> torch.Tensor:
        return self._mask


class Broken:
    def allowed(self, output: object) -> torch.Tensor:
        raise RuntimeError("a bug in a grammar")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("token", [100, 95])
def test_a_constraint_leaves_only_what_it_allows(base: Base, packed: bool, token: int) -> None:
    constraint = Only(token, base.decoder.config.vocab_size, packed=packed)
    with serving(base) as service:
        pieces = answer(service, ask(base, "x", n=5, constraint=constraint))
    assert tokens(pieces) == [token] * 5


def test_a_constraint_that_fails_or_forbids_everything_ends_its_own_request_only(base: Base) -> None:
    nothing = Only(3, 3 + 1, packed=False)
    nothing._mask[:] = False
    with serving(base) as service:
        good, bad, none = Listener(), Listener(), Listener()
        service.submit(ask(base, "good", n=12), good)
        service.submit(ask(base, "bad", n=12, constraint=Broken()), bad)
        service.submit(ask(base, "none", n=12, constraint=nothing), none)
        broken = bad.all()[-1]
        assert broken.finish_reason == "error" and isinstance(broken.error, DataError)
        assert "a bug in a grammar" in broken.error.message
        assert "allows no token" in str(none.all()[-1].error)
        assert tokens(good.all()) == alone(base, ask(base, "good", n=12))
        assert tokens(answer(service, ask(base, "good", n=12))) == alone(base, ask(base, "good", n=12))


def test_an_adapter_that_is_not_numbers_ends_its_own_request_only(base: Base) -> None:
    bad = busy_adapter(base, 1)
    with torch.no_grad():
        next(iter(bad.deltas.values())).lora_B[:] = float("nan")
    with serving(base, max_batch=2) as service:
        for _ in range(3):
            wrong, good = Listener(), Listener()
            service.submit(ask(base, "same prompt", ((bad, 1.0),)), wrong)
            service.submit(ask(base, "same prompt"), good)
            assert "not numbers" in str(wrong.all()[-1].error)
            assert tokens(good.all()) == alone(base, ask(base, "same prompt"))


def test_a_listener_that_breaks_ends_its_own_request_only(base: Base) -> None:
    def broken(piece: Piece) -> None:
        raise RuntimeError("the client has gone")

    with serving(base, max_batch=1) as service:
        service.submit(ask(base, "gone", n=400), broken)
        assert len(answer(service, ask(base, "next", n=3))) == 3


def test_an_engine_that_fails_tells_everybody_and_takes_no_more(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(base) as service:

        def fail(*_: object) -> torch.Tensor:
            raise MemoryError("none left")

        monkeypatch.setattr(base.decoder, "forward", fail)
        last = answer(service, ask(base, "a"))[-1]
        assert last.finish_reason == "error" and "MemoryError: none left" in str(last.error)
        with pytest.raises(ResourceError, match="none left"):
            service.submit(ask(base, "a"), Listener())
        assert "none left" in service.stats().failed


def test_closing_ends_what_is_not_answered_and_its_thread(base: Base) -> None:
    before = threading.active_count()
    service, listener = Service(base), Listener()
    service.submit(ask(base, "long", n=400), listener)
    listener.next()
    service.close()
    service.close()
    assert listener.all()[-1].finish_reason == "error"
    assert threading.active_count() == before
    with pytest.raises(ResourceError, match="closed"):
        service.submit(ask(base, "a"), listener)


def test_a_prompt_that_does_not_fit_is_refused_unless_it_may_be_cut(base: Base) -> None:
    with serving(base, max_context=40) as service:
        with pytest.raises(UsageError, match="the context holds 40"):
            service.submit(ask(base, "x" * 60), Listener())
        listener = Listener()
        ticket = service.submit(ask(base, "a" * 30 + "b" * 30, n=4, truncate=True), listener)
        assert (ticket.prompt_tokens, ticket.truncated_tokens) == (35, 25)
        kept = Request(text_ids(base, "a" + "a" * 4 + "b" * 30), Sampling(max_tokens=4))
        assert tokens(listener.all()) == alone(base, kept)


def test_top_logprobs_are_the_models_likeliest_with_the_drawn_one_first_when_greedy(base: Base) -> None:
    with serving(base) as service:
        for piece in answer(service, ask(base, "abc", n=4, top_logprobs=3, logit_bias={})):
            ids, values = zip(*piece.top_logprobs)
            assert ids[0] == piece.token and values[0] == pytest.approx(piece.logprob, abs=1e-6)
            assert list(values) == sorted(values, reverse=True) and len(ids) == 3


def test_a_bias_moves_the_draw_and_not_the_log_probability(base: Base) -> None:
    with serving(base) as service:
        plain = answer(service, ask(base, "abc", n=1, top_logprobs=5))[0]
        other, value = plain.top_logprobs[3]
        biased = answer(service, ask(base, "abc", n=1, logit_bias={other: 100.0}))[0]
        assert biased.token == other and biased.logprob == pytest.approx(value, abs=1e-5)


def test_what_cannot_be_asked_is_refused_and_harms_nobody(base: Base) -> None:
    with serving(base) as service:
        for request, why in (
            (ask(base, "abc", logit_bias={10_000: 1.0}), "no token 10000"),
            (ask(base, "abc", logit_bias={5: float("nan")}), "finite"),
            (ask(base, "abc", top_logprobs=-1), "top_logprobs"),
            (Request([5, -3]), "no token -3"),
            (ask(base, "abc", constraint=Broken()), "a bug in a grammar"),
        ):
            assert why in str(answer(service, request)[-1].error)
        with pytest.raises(UsageError, match="no token 999"):
            service.embed([[999]])
        assert tokens(answer(service, ask(base, "fine"))) == alone(base, ask(base, "fine"))


@pytest.mark.parametrize("n", [0, 3])
def test_prompt_scores_are_the_evaluations_own(base: Base, n: int) -> None:
    stack = ((busy_adapter(base, 2), 1.0),)
    request = ask(base, "score this text, all of it " * 8, stack, n=n, score_prompt=True, top_logprobs=2)
    expected = score(base, [Encoded(request.tokens, [True] * len(request.tokens))], stack)[0]
    with serving(base) as service:
        answer(service, ask(base, "score this text", stack))  # what others have read must not be skipped
        first, *rest = answer(service, request)
        assert first.prompt_scores is not None
        assert first.prompt_scores.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert first.prompt_scores.greedy == expected.greedy
        for top, greedy, token in zip(first.prompt_scores.top, expected.greedy, request.tokens[1:]):
            assert (top[0][0] == token) == greedy and len(top) == 2
        assert all(piece.prompt_scores is None for piece in rest)
        assert [piece.finish_reason for piece in [first, *rest]] == [None] * max(0, n - 1) + ["length"]


def test_embeddings_are_of_length_one_and_do_not_depend_on_their_neighbours(base: Base) -> None:
    texts = [text_ids(base, text) for text in ("one", "another text", "x" * 300, "y" * 300)]
    stack = ((busy_adapter(base, 3), 1.0),)
    with serving(base) as service:
        listener = Listener()
        service.submit(ask(base, "meanwhile", n=20), listener)
        vectors = service.embed(texts, stack)
        listener.all()
        with pytest.raises(UsageError, match="text 1 is empty"):
            service.embed([[5], []])
        assert service.embed([]).shape == (0, 32)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    apart = torch.cat([embed(base, [text], stack) for text in texts])
    torch.testing.assert_close(vectors, apart, atol=1e-5, rtol=0)
    assert float((vectors - embed(base, texts)).abs().max()) > 1e-3


def test_the_counts_add_up(base: Base) -> None:
    with serving(base) as service:
        prompt = ask(base, "count " * 10, n=5)
        answer(service, prompt)
        second = answer(service, prompt)
        stats = service.stats()
    assert stats.requests == 2 and stats.generated_tokens == 10
    assert stats.prompt_tokens == 2 * len(prompt.tokens)
    assert stats.prefix_hits == second[0].cached_tokens == len(prompt.tokens) - 1
    assert stats.failed == "" and stats.cache_bytes >= 0


def test_options_that_make_no_service_are_refused(base: Base) -> None:
    for options in ({"max_batch": 0}, {"queue": 0}, {"cache_mb": -1}, {"max_context": 1}):
        with pytest.raises(NomoatError):
            Service(base, ServiceOptions(**options))
