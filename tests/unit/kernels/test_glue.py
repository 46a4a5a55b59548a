"""The compiled glue against its twins, and the twins against torch's own gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import glue, glue_native, glue_reference, native

SETS = native.instruction_sets()
SHAPES = [(1, 1), (3, 7), (5, 16), (2, 33), (4, 64), (7, 100), (0, 8), (1, 576)]


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * scale


def unaligned(*shape: int, seed: int = 0) -> Tensor:
    """Numbers that begin four bytes after a multiple of sixty-four, as a slice of a larger tensor may."""
    whole = numbers(1 + torch.Size(shape).numel(), seed=seed)
    return whole[1:].view(*shape)


def close(ours: Tensor, twins: Tensor) -> None:
    torch.testing.assert_close(ours, twins, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_added", [False, True])
def test_the_norm_and_the_addition_before_it_are_the_twins(
    instruction_set: int, shape: tuple[int, int], has_added: bool
) -> None:
    x, weight = unaligned(*shape), numbers(shape[1], seed=2)
    added = unaligned(*shape, seed=1) if has_added else None
    ours = glue_native.rms_norm(x, added, 0.5, weight, 1e-6, instruction_set=instruction_set)
    twins = glue_reference.rms_norm(x, added, 0.5, weight, 1e-6)
    for our, twin in zip(ours, twins, strict=True):
        close(our, twin)
    grad, h, inverse = numbers(*shape, seed=3), twins[0], twins[2]
    for beyond in (None, unaligned(*shape, seed=4)):
        back = glue_native.rms_norm_backward(grad, h, inverse, weight, beyond, instruction_set=instruction_set)
        close(back, glue_reference.rms_norm_backward(grad, h, inverse, weight, beyond))


@pytest.mark.parametrize(("heads", "width", "half"), [(1, 2, 1), (3, 8, 4), (2, 10, 3), (2, 64, 32), (5, 80, 20)])
@pytest.mark.parametrize("back", [False, True])
def test_rotation_is_the_twins_also_of_a_part_of_a_wider_tensor(
    instruction_set: int, heads: int, width: int, half: int, back: bool
) -> None:
    angles = numbers(6, 1, half, seed=1)
    wide = numbers(6, heads * width + 5)
    x = wide[:, : heads * width].unflatten(1, (heads, width))
    ours = glue_native.rotate(x, angles.cos(), angles.sin(), back=back, instruction_set=instruction_set)
    close(ours, glue_reference.rotate(x, angles.cos(), angles.sin(), back=back))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_gated_activation_is_the_twins_also_on_halves_of_one_tensor(
    instruction_set: int, shape: tuple[int, int], activation: str
) -> None:
    both = numbers(shape[0], 2 * shape[1], scale=3)
    gate, up = both.chunk(2, dim=1)
    close(
        glue_native.gated(gate, up, activation, instruction_set=instruction_set),
        glue_reference.gated(gate, up, activation),
    )
    grad = unaligned(*shape, seed=5)
    ours = glue_native.gated_backward(gate, up, grad, activation, instruction_set=instruction_set)
    # In float64, because 1 - tanh^2 in float32 loses what the compiled form, by the sigmoid, keeps.
    twins = glue_reference.gated_backward(gate.double(), up.double(), grad.double(), activation)
    for our, twin in zip(ours, twins, strict=True):
        close(our, twin.float())


def test_the_exponential_keeps_its_promise_over_the_range_of_floats(instruction_set: int) -> None:
    # silu(x) / x is the sigmoid, whose only inexact part for large negative x is the exponential.
    x = torch.linspace(-87, 80, 200_001)
    ours = glue_native.gated(x[None], 1 / x[None], "silu", instruction_set=instruction_set)[0].double()
    true = torch.sigmoid(x.double()) * (x * (1 / x)).double()
    assert ((ours / true) - 1).abs()[x != 0].max() < 1e-6


def test_infinities_and_numbers_that_are_none_stay_what_they_are(instruction_set: int) -> None:
    gate = torch.tensor([[float("inf"), float("-inf"), float("nan"), 1e30, -1e30, 0.0]])
    for activation in ("silu", "gelu_tanh"):
        out = glue_native.gated(gate, torch.ones_like(gate), activation, instruction_set=instruction_set)
        assert out[0, 2].isnan()
        assert out[0, 3] == 1e30
        assert out[0, 4].abs() <= 1e-6
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    y = glue_native.rms_norm(x, None, 1.0, torch.ones(2), 1e-6, instruction_set=instruction_set)[1]
    assert y[0].isnan().all() and y[1].isfinite().all()


def test_no_result_depends_on_the_number_of_threads(threads: None) -> None:
    if not SETS:
        pytest.skip("the compiled kernels are not built")
    gate, up, weight = numbers(300, 130), numbers(300, 130, seed=1), numbers(130)
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        norm = glue_native.rms_norm(gate, up, 1.0, weight, 1e-6)
        results.append(
            (*norm, glue_native.gated(gate, up, "silu"), *glue_native.gated_backward(gate, up, gate, "silu"))
        )
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def _torch_norm(x: Tensor, added: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    h = x + 0.25 * added
    return h, F.rms_norm(h, (h.shape[1],), weight, 1e-6)


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_gradients_are_those_of_torchs_own_operations(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    weight, angles = numbers(24), numbers(5, 1, 3)
    cos, sin = angles.cos(), angles.sin()
    turn = torch.cat([torch.cat([cos, cos], 2), torch.ones(5, 1, 2)], 2)
    cross = torch.cat([torch.cat([-sin, sin], 2), torch.zeros(5, 1, 2)], 2)

    def turned(x: Tensor) -> Tensor:
        x = x.view(5, 3, 8)
        return x * turn + torch.cat([x[..., 3:6], x[..., :3], x[..., 6:]], 2) * cross

    pairs: list[tuple[Callable[[Tensor, Tensor], object], Callable[[Tensor, Tensor], object]]] = [
        (lambda x, a: glue.add_norm(x, a, 0.25, weight, 1e-6), lambda x, a: _torch_norm(x, a, weight)),
        (lambda x, a: (glue.rms_norm(x, weight, 1e-6) * a,), lambda x, a: (F.rms_norm(x, (24,), weight, 1e-6) * a,)),
        (lambda x, a: (glue.gated(x, a, "silu"),), lambda x, a: (F.silu(x) * a,)),
        (lambda x, a: (glue.gated(x, a, "gelu_tanh"),), lambda x, a: (F.gelu(x, approximate="tanh") * a,)),
        (lambda x, a: (glue.rotary(x.view(5, 3, 8), cos, sin), a), lambda x, a: (turned(x), a)),
    ]
    for ours, torchs in pairs:
        grads = []
        for way in (ours, torchs):
            x, added = numbers(5, 24).requires_grad_(), numbers(5, 24, seed=1).requires_grad_()
            outs: object = way(x, added)
            assert isinstance(outs, tuple)
            loss = sum((out * numbers(*out.shape, seed=7 + i)).sum() for i, out in enumerate(outs))
            assert isinstance(loss, Tensor)
            loss.backward()  # type: ignore[no-untyped-call]
            grads.append((x.grad, added.grad))
        for our, torchs_grad in zip(*grads, strict=True):
            assert our is not None and torchs_grad is not None
            torch.testing.assert_close(our, torchs_grad, rtol=1e-4, atol=1e-5)


def test_wrong_shapes_are_refused_before_a_pointer_is_taken() -> None:
    if not SETS:
        pytest.skip("the compiled kernels are not built")
    x, y = torch.zeros(2, 4), torch.zeros(2, 5)
    for attempt in (
        lambda: glue_native.gated(x, y, "silu"),
        lambda: glue_native.rms_norm(x, y, 1.0, torch.ones(4), 1e-6),
        lambda: glue_native.rms_norm(x, None, 1.0, torch.ones(5), 1e-6),
        lambda: glue_native.rotate(torch.zeros(2, 1, 4), torch.zeros(2, 1, 3), torch.zeros(2, 1, 3), back=False),
        lambda: glue_native.gated_backward(x, x, x.double(), "silu"),
    ):
        with pytest.raises(ShapeMismatch):
            attempt()
