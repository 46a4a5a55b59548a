"""A mixed batch: every row gets from its own stack what it gets alone, forward and backward."""

from __future__ import annotations

import itertools

import pytest
import torch

from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import MixedStack, Stack
from nomoat.model.load import Base
from tiny import tiny_base

KINDS: list[dict[str, object]] = [
    {"rank": 1},
    {"rank": 4, "use_dora": True},
    {"rank": 3, "init": "pissa"},
    {"rank": 8, "target_modules": ("embed_tokens", "q_proj")},
    {"rank": 5, "target_modules": ("lm_head", "down_proj"), "use_rslora": True},
    {"rank": 2, "target_modules": ("v_proj",)},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False)


def busy_adapter(base: Base, seed: int, **kind: object) -> Adapter:
    adapter = base.new_adapter(AdapterConfig(**kind), seed=seed, name=f"busy{seed}")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return adapter


def sixteen_stacks(base: Base) -> list[Stack]:
    """All kinds alone, together, twice, with odd weights, and none."""
    own = [busy_adapter(base, seed, **kind) for seed, kind in enumerate(KINDS)]
    pairs: list[Stack] = [((one, 0.5), (other, -1.5)) for one, other in itertools.pairwise(own)]
    return [*(((one, 1.0),) for one in own), *pairs, (), tuple((one, 0.3) for one in own), ((own[0], 2.0),), (), ()]


def documents(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 259, (length,), generator=generator) for length in lengths]


@pytest.mark.parametrize("length", [1, 7])
def test_sixteen_rows_with_sixteen_stacks_get_what_they_get_alone(base: Base, length: int) -> None:
    stacks = sixteen_stacks(base)
    rows = documents([length] * 16)
    mixed = MixedStack(stacks, [length] * 16)
    with torch.inference_mode():
        hidden = base.decoder(torch.cat(rows), Layout([length] * 16), mixed)
        together = base.decoder.logits(hidden, mixed)
        alone = torch.cat(
            [
                base.decoder.logits(base.decoder(row, Layout([length]), stack), stack)
                for row, stack in zip(rows, stacks, strict=True)
            ]
        )
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert torch.equal(together.argmax(1), alone.argmax(1))
    assert len({tuple(row) for row in together[::length].topk(5).indices.tolist()}) > 8  # stacks do something


def test_losses_and_gradients_of_a_mixed_batch_are_those_of_its_rows(base: Base) -> None:
    stacks = sixteen_stacks(base)[:6]
    lengths = [5, 1, 9, 4, 8, 3]
    rows = documents(lengths, seed=1)
    masks = [torch.rand(length, generator=torch.Generator().manual_seed(length)) < 0.6 for length in lengths]
    adapters = [stack[0][0] for stack in stacks]
    parameters = [p for adapter in adapters for p in adapter.parameters().values()]  # type: ignore[attr-defined]

    losses = base.decoder.next_token_losses(
        torch.cat(rows), Layout(lengths), torch.cat(masks), MixedStack(stacks, lengths)
    )
    together = torch.autograd.grad(losses.nll.sum(), parameters, allow_unused=True)

    alone = [base.decoder.next_token_losses(r, Layout([len(r)]), m, s).nll for r, m, s in zip(rows, masks, stacks)]
    apart = torch.autograd.grad(torch.cat(alone).sum(), parameters, allow_unused=True)
    torch.testing.assert_close(losses.nll, torch.cat(alone), atol=1e-4, rtol=0)
    for got, expected in zip(together, apart):
        zero = torch.zeros(())
        torch.testing.assert_close(
            zero if got is None else got, zero if expected is None else expected, atol=1e-4, rtol=1e-4
        )
    assert any(gradient is not None and bool(gradient.any()) for gradient in together)


def test_rows_taken_from_a_mixed_batch_keep_their_stacks(base: Base) -> None:
    one, two = busy_adapter(base, 1, rank=2), busy_adapter(base, 2, rank=2)
    mixed = MixedStack([((one, 1.0),), (), ((two, 1.0),)], [3, 2, 4])
    taken = mixed.take(torch.tensor([1, 2, 5, 8]))
    assert list(taken.lengths) == [2, 0, 2]
    assert [rows for _, rows in taken.runs] == [slice(0, 2), slice(2, 4)]


def test_neighbouring_runs_of_one_stack_are_one_run(base: Base) -> None:
    one = busy_adapter(base, 1, rank=2)
    mixed = MixedStack([((one, 1.0),), ((one, 1.0),), ((one, 0.5),)], [1, 2, 1])
    assert [rows for _, rows in mixed.runs] == [slice(0, 3), slice(3, 4)]


@pytest.mark.parametrize("lengths", [[1], [1, -1]])
def test_a_mixed_stack_without_a_length_for_each_stack_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="one length"):
        MixedStack([(), ()], lengths)
