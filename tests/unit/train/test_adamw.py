"""Our AdamW against torch's."""

from __future__ import annotations

import pytest
import torch

from nomoat.train.adamw import AdamW, AdamWOptions


def _parameters(seed: int) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"lora_A": (4, 33), "lora_B": (17, 4), "magnitude": (17,)}
    return {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def _set_gradients(parameters: dict[str, torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (step % 5 - 2)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fifty_updates_are_bit_for_bit_those_of_torch(weight_decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    for name, (ours, theirs) in _after_fifty_updates(weight_decay).items():
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fifty_updates_of_the_compiled_kernel_end_where_torchs_do(weight_decay: float) -> None:
    for ours, theirs in _after_fifty_updates(weight_decay).values():
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def _after_fifty_updates(weight_decay: float) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    ours, theirs = _parameters(0), _parameters(0)
    scale = {"lora_B": 16.0}
    optimizer = AdamW(ours, AdamWOptions(0.9, 0.98, 1e-6, weight_decay, scale))
    groups = [{"params": [value], "lr_scale": scale.get(name, 1.0)} for name, value in theirs.items()]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay, foreach=False)
    for step in range(50):
        lr = 1e-2 / (1 + step)
        for group in reference.param_groups:
            group["lr"] = lr * group["lr_scale"]
        _set_gradients(ours, step)
        _set_gradients(theirs, step)
        optimizer.update(lr)
        reference.step()
    return {name: (parameter, theirs[name]) for name, parameter in ours.items()}


def test_a_saved_state_goes_on_to_the_same_values() -> None:
    whole, first, second = _parameters(1), _parameters(1), _parameters(2)
    straight, begun = AdamW(whole, AdamWOptions()), AdamW(first, AdamWOptions())
    for step in range(10):
        _set_gradients(whole, step)
        straight.update(1e-3)
    for step in range(6):
        _set_gradients(first, step)
        begun.update(1e-3)
    resumed = AdamW(second, AdamWOptions())
    resumed.load({name: value.clone() for name, value in begun.state().items()}, begun.updates)
    with torch.no_grad():
        for name, parameter in second.items():
            parameter.copy_(first[name])
    for step in range(6, 10):
        _set_gradients(second, step)
        resumed.update(1e-3)
    assert all(torch.equal(whole[name], second[name]) for name in whole)


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    parameters = _parameters(3)
    before = parameters["magnitude"].detach().clone()
    optimizer = AdamW(parameters, AdamWOptions(weight_decay=0.5))
    _set_gradients(parameters, 0)
    parameters["magnitude"].grad = None
    optimizer.update(1e-2)
    assert torch.equal(parameters["magnitude"], before)


def test_a_state_with_a_missing_moment_is_refused() -> None:
    optimizer = AdamW(_parameters(0), AdamWOptions())
    state = dict(optimizer.state())
    del state["mean.lora_A"]
    with pytest.raises(KeyError, match="lora_A"):
        optimizer.load(state, 1)
