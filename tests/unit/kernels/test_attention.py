"""Packed attention: the compiled kernel, its twin, and attention written out document by document."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import attention_native, native
from nomoat.kernels.attention import packed_attention
from nomoat.kernels.attention_reference import Shape

SETS = native.instruction_sets()
# Lengths around the tiles of 60 queries and 64 keys, one token, none, and several tiles.
LENGTHS = [(1,), (5, 1, 0, 12), (60, 61, 64), (65,), (130, 3), (200,)]
HEADS = [(1, 1, 8), (4, 2, 16), (3, 3, 20), (6, 1, 33)]


def inputs(lengths: tuple[int, ...], heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(heads * 100 + width)
    total = sum(lengths)
    shapes = (heads, kv_heads, kv_heads)
    q, k, v = (torch.randn(total, n, width, generator=generator) for n in shapes)
    return q, k, v


def written_out(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> Tensor:
    """The definition, in float64."""
    parts, start = [], 0
    for length in shape.lengths:
        here = slice(start, start + length)
        queries, keys, values = (x[here].double().transpose(0, 1) for x in (q, k, v))
        repeats = queries.shape[0] // keys.shape[0]
        keys, values = keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)
        scores = queries @ keys.transpose(1, 2) * shape.scale
        if shape.softcap is not None:
            scores = shape.softcap * torch.tanh(scores / shape.softcap)
        places = torch.arange(length)
        seen = places[None] <= places[:, None]
        if shape.window is not None:
            seen &= places[None] > places[:, None] - shape.window
        weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1)
        parts.append((weights @ values).transpose(0, 1))
        start += length
    return torch.cat(parts)


def with_gradients(
    q: Tensor, k: Tensor, v: Tensor, shape: Shape, *, exact: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    if exact:
        out = written_out(*leaves, shape)
    else:
        out = packed_attention(*leaves, shape.lengths, scale=shape.scale, window=shape.window, softcap=shape.softcap)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float32)
    (out * weights).sum().backward()  # type: ignore[no-untyped-call]
    grads = [leaf.grad for leaf in leaves]
    assert all(grad is not None for grad in grads)
    return out.detach().float(), *(torch.empty(0) if grad is None else grad for grad in grads)  # type: ignore[return-value]


@pytest.mark.parametrize("kernels", ["", "reference"])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 7, 64, 70])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_attention_and_its_gradients_are_the_definitions(
    lengths: tuple[int, ...], window: int | None, softcap: float | None, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    shape = Shape(lengths, 0.4, window, softcap)
    for heads in HEADS:
        tensors = inputs(lengths, *heads)
        ours, exact = with_gradients(*tensors, shape, exact=False), with_gradients(*tensors, shape, exact=True)
        for our, true in zip(ours, exact, strict=True):
            torch.testing.assert_close(our, true, rtol=2e-5, atol=1e-5)


def test_every_instruction_set_gives_the_same_attention(instruction_set: int) -> None:
    for lengths, heads in zip(LENGTHS, (*HEADS, *HEADS), strict=False):
        q, k, v = inputs(lengths, *heads)
        shape = Shape(lengths, 0.3, 50, 3.0)
        out, peaks = attention_native.forward(q, k, v, shape, instruction_set=instruction_set)
        torch.testing.assert_close(out, written_out(q, k, v, shape).float(), rtol=1e-5, atol=1e-6)
        grads = attention_native.backward(q, k, v, out, peaks, q, shape, instruction_set=instruction_set)
        best = attention_native.backward(q, k, v, out, peaks, q, shape)
        for grad, other in zip(grads, best, strict=True):
            torch.testing.assert_close(grad, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kernels", ["", "reference"])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (70, None), (7, 2.0)])
def test_the_last_tokens_of_documents_get_what_they_get_with_the_whole(
    window: int | None, softcap: float | None, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    lengths, starts = (70, 1, 0, 64, 3), (61, 5, 9, 0, 200)
    ends = tuple(start + length for start, length in zip(starts, lengths))
    new = torch.cat([torch.arange(end) >= start for start, end in zip(starts, ends)])
    for heads in HEADS:
        q, k, v = inputs(ends, *heads)
        whole = packed_attention(q, k, v, ends, scale=0.3, window=window, softcap=softcap)[new]
        part = packed_attention(q[new], k, v, lengths, starts, scale=0.3, window=window, softcap=softcap)
        if kernels or not SETS:
            torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(part, whole)


def test_keys_and_values_may_be_parts_of_one_fused_projection() -> None:
    fused = torch.randn(70, 4 * 8 + 2 * 2 * 8, generator=torch.Generator().manual_seed(0))
    q, k, v = (x.unflatten(1, (-1, 8)) for x in fused.split([32, 16, 16], dim=1))
    apart = packed_attention(q, k, v, (40, 30), scale=0.3)
    together = packed_attention(q.contiguous(), k.contiguous(), v.contiguous(), (40, 30), scale=0.3)
    assert torch.equal(apart, together)


def test_large_scores_neither_overflow_nor_lose_the_largest() -> None:
    q, k, v = inputs((100,), 2, 1, 16)
    shape = Shape((100,), 1.0)
    out = packed_attention(q * 60, k * 60, v, shape.lengths, scale=1.0)
    torch.testing.assert_close(out, written_out(q * 60, k * 60, v, shape).float(), rtol=1e-3, atol=1e-3)


def test_a_number_that_is_none_stays_in_its_document() -> None:
    q, k, v = inputs((20, 20), 2, 1, 16)
    k[3] = float("nan")
    out = packed_attention(q, k, v, (20, 20), scale=0.3)
    assert out[3:20].isnan().all() and out[:3].isfinite().all() and out[20:].isfinite().all()


def test_no_result_depends_on_the_number_of_threads(threads: None) -> None:
    if not SETS:
        pytest.skip("the compiled kernels are not built")
    q, k, v = inputs((90, 40), 4, 1, 16)
    shape, results = Shape((90, 40), 0.3), []
    for count in (1, 3):
        torch.set_num_threads(count)
        out, peaks = attention_native.forward(q, k, v, shape)
        results.append((out, *attention_native.backward(q, k, v, out, peaks, q, shape)))
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


tiles = pytest.mark.skipif(not native.has_tiles(), reason="needs AMX")


@tiles
@pytest.mark.parametrize("window, softcap", [(None, None), (9, None), (None, 3.0)])
@pytest.mark.parametrize("heads, kv_heads, width", [*HEADS, (2, 1, 64), (2, 1, 256), (1, 1, 300)])
@pytest.mark.parametrize("lengths", [(1,), (5, 1, 0, 33), (64, 65), (200,)])
def test_tiles_give_attention_within_the_parts_they_keep(
    lengths: tuple[int, ...], heads: int, kv_heads: int, width: int, window: int | None, softcap: float | None
) -> None:
    q, k, v = inputs(lengths, heads, kv_heads, width)
    shape = Shape(lengths, width**-0.5, window, softcap)
    got, _ = attention_native.forward(q, k, v, shape, on_tiles=True)
    torch.testing.assert_close(got.double(), written_out(q, k, v, shape), rtol=2e-4, atol=1e-4)


@tiles
def test_tiles_are_left_alone_where_kernels_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs((70,), 4, 2, 24)
    shape = Shape((70,), 0.2)
    plain, _ = attention_native.forward(q, k, v, shape)
    assert not torch.equal(attention_native.forward(q, k, v, shape, on_tiles=True)[0], plain)
    monkeypatch.setenv("NOMOAT_KERNELS", "avx512")
    assert torch.equal(attention_native.forward(q, k, v, shape, on_tiles=True)[0], plain)


@tiles
@pytest.mark.parametrize("window", [None, 50])
def test_on_tiles_too_a_document_read_in_parts_is_the_document(window: int | None) -> None:
    q, k, v = inputs((150,), 4, 2, 24)
    whole, _ = attention_native.forward(q, k, v, Shape((150,), 0.2, window), on_tiles=True)
    for start in (1, 31, 32, 64, 149):
        shape = Shape((150 - start,), 0.2, window, None, (start,))
        part, _ = attention_native.forward(q[start:], k, v, shape, on_tiles=True)
        assert torch.equal(part, whole[start:])


def test_far_tokens_of_hardly_any_weight_change_nothing_and_leave_the_thread_as_it_was() -> None:
    """Weights down to 1e-45, which the kernel takes as zero; elsewhere such numbers stay numbers."""
    q, k, v = inputs((200,), 2, 1, 16)
    q, shape = q * 12, Shape((200,), 1.0)
    found, exact = (with_gradients(q, k, v, shape, exact=exact) for exact in (False, True))
    for ours, theirs in zip(found, exact):
        torch.testing.assert_close(ours, theirs.float(), atol=1e-3, rtol=1e-4)
    assert (torch.full((64,), 1e-40) * 0.5).min() > 0


def test_shapes_that_do_not_fit_are_refused() -> None:
    if not SETS:
        pytest.skip("the compiled kernels are not built")
    q, k, v = inputs((6,), 4, 2, 8)
    for attempt in (
        lambda: attention_native.forward(q, k, v, Shape((5,), 1.0)),
        lambda: attention_native.forward(q, k, v, Shape((7, -1), 1.0)),
        lambda: attention_native.forward(q, k, v, Shape((6,), 1.0, starts=(1,))),
        lambda: attention_native.forward(q[1:], k, v, Shape((5,), 1.0, starts=(2, -1))),
        lambda: attention_native.forward(q, k[:, :, :4], v, Shape((6,), 1.0)),
        lambda: attention_native.forward(q[:, :3], k, v, Shape((6,), 1.0)),
        lambda: attention_native.forward(q, k, v, Shape((6,), 1.0, window=0)),
        lambda: attention_native.forward(q.double(), k, v, Shape((6,), 1.0)),
    ):
        with pytest.raises(ShapeMismatch):
            attempt()
