"""What a step makes again changes its memory, never its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nomoat.model.adapters import AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base, load_base
from nomoat.model.recompute import POLICIES, Recipes, Recompute
from tiny import tiny_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(tiny_folder(tmp_path_factory.mktemp("base")))


def gradients(base: Base, policy: Recompute) -> tuple[dict[str, Tensor], int]:
    """The adapter's gradients, and the bytes that the step kept for its backward pass."""
    adapter = base.new_adapter(AdapterConfig(rank=4), seed=1, name="a")
    for name, value in adapter.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    tokens = torch.randint(3, 200, (60,), generator=torch.Generator().manual_seed(0))
    base.decoder.choose_recompute(policy)
    mask = torch.ones(60, dtype=torch.bool)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss = base.decoder.next_token_losses(tokens, Layout([40, 20]), mask, ((adapter, 1.0),)).nll.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    base.decoder.choose_recompute("least")
    grads = {name: value.grad for name, value in adapter.parameters().items() if value.grad is not None}
    return grads, sum(event.self_cpu_memory_usage for event in profile.key_averages())


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_bits(base: Base, policy: Recompute) -> None:
    expected, ours = gradients(base, "least")[0], gradients(base, policy)[0]
    assert expected.keys() == ours.keys() and any(grad.abs().sum() > 0 for grad in ours.values())
    assert all(torch.equal(expected[name], ours[name]) for name in expected)


def test_every_policy_keeps_less_than_the_one_before(base: Base) -> None:
    kept = [gradients(base, policy)[1] for policy in POLICIES]
    assert kept[0] > 1.3 * kept[1] and kept[1] > 1.3 * kept[2], kept


def test_a_saved_tensor_with_a_recipe_is_let_go_and_made_again() -> None:
    weight, made = torch.ones(3, 3, requires_grad=True), []
    with Recipes("least") as recipes:
        x = torch.arange(6.0).view(2, 3) + 1
        alive = [x]
        recipes.add(x, lambda: made.append(1) or torch.arange(6.0).view(2, 3) + 1)  # type: ignore[func-returns-value]
        out = x @ weight
    alive[0].zero_()  # whoever kept the tensor would now give another gradient
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert made == [1]
    assert torch.equal(weight.grad, torch.tensor([[5.0] * 3, [7.0] * 3, [9.0] * 3]))  # type: ignore[arg-type]


def test_recipes_do_nothing_where_no_gradient_is_wanted() -> None:
    with torch.no_grad(), Recipes("least") as recipes:
        recipes.add(torch.zeros(1), lambda: torch.ones(1))
        assert torch.equal(torch.zeros(1) + 1, torch.ones(1))
