"""The compiled decode step is the decoder: same hidden states, same cache, whatever the rows wear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters import with_random_biases
from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import decode, native
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import KVCache, Layout
from nomoat.model.delta import AnyStack, MixedStack
from nomoat.model.load import Base
from nomoat.model.step import most_rows
from tiny import tiny_base

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason=native.status())

PROMPTS = Layout([11, 3, 7], slots=[2, 0, 1])
NEXT = Layout([1, 1, 1], starts=[11, 3, 7], slots=[2, 0, 1])


@pytest.fixture(params=["llama", "qwen2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Base:
    return tiny_base(tmp_path / request.param, request.param)


def adapter(base: Base, seed: int = 0, **changes: object) -> Adapter:
    made = base.new_adapter(AdapterConfig(**({"rank": 3, "alpha": 6.0} | changes)), seed=seed, name="a")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def tokens(n: int, seed: int = 0) -> Tensor:
    return torch.randint(3, 259, (n,), generator=torch.Generator().manual_seed(seed))


def filled(base: Base, stack: AnyStack = ()) -> KVCache:
    cache = KVCache(base.decoder.config, 7)
    for slot, pages in enumerate(([4, 1], [2, 6], [5, 3])):
        cache.place(slot, pages)
    base.decoder(tokens(21), PROMPTS, stack, cache)
    return cache


def both_ways(base: Base, layout: Layout, stack: AnyStack, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """Hidden states, then keys and values, of the compiled step and of PyTorch."""
    results = []
    for kernels in ("", "reference"):
        monkeypatch.setenv("NOMOAT_KERNELS", kernels)
        with torch.inference_mode():
            cache = filled(base)
            assert base.decoder._step.takes(layout, stack, cache) == (kernels == "")
            hidden = base.decoder(tokens(layout.n_tokens, 1), layout, stack, cache)
        results.append(torch.cat([hidden.flatten(), cache.keys.flatten(), cache.values.flatten()]))
    monkeypatch.setenv("NOMOAT_KERNELS", "")
    return results[0], results[1]


def test_a_step_gives_the_hidden_states_and_the_cache_of_the_decoder(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layout in (NEXT, Layout([4, 1], starts=[3, 11], slots=[0, 2]), Layout([5, 2], slots=[1, 0])):
        torch.testing.assert_close(*both_ways(base, layout, (), monkeypatch), atol=1e-5, rtol=1e-5)


def test_adapters_are_worn_as_the_decoder_wears_them(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = adapter(base, 1), adapter(base, 2, rank=17, target_modules=("q_proj", "down_proj", "embed_tokens"))
    pissa = adapter(base, 3, init="pissa")
    for stack in (((one, 1.0),), ((one, 0.7), (two, -0.5)), ((pissa, 0.5), (one, 0.0), (two, 2.0))):
        torch.testing.assert_close(*both_ways(base, NEXT, stack, monkeypatch), atol=2e-5, rtol=1e-4)


def test_biases_are_worn_at_their_strength(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = with_random_biases(adapter(base, 1), 1), with_random_biases(adapter(base, 2, rank=5), 2, "q_proj")
    for stack in (((one, 1.0),), ((one, 0.7), (two, -0.5), (adapter(base, 3), 1.0))):
        torch.testing.assert_close(*both_ways(base, NEXT, stack, monkeypatch), atol=2e-5, rtol=1e-4)
    mixed = MixedStack([((one, 1.0),), (), ((one, -0.5), (two, 2.0))], [1, 1, 1])
    torch.testing.assert_close(*both_ways(base, NEXT, mixed, monkeypatch), atol=2e-5, rtol=1e-4)


def test_every_row_wears_its_own(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = adapter(base, 1), adapter(base, 2, rank=5)
    for stacks in ([((one, 1.0),), ((two, 1.0),), ((one, 0.5), (two, 0.5))], [(), ((two, -1.0),), ()]):
        mixed = MixedStack(stacks, [1, 1, 1])
        with torch.inference_mode():
            together = base.decoder(tokens(3, 1), NEXT, mixed, filled(base))
            for i, (start, slot, stack) in enumerate(zip(NEXT.starts, NEXT.slots, stacks)):
                one_row = Layout([1], starts=[start], slots=[slot])
                alone = base.decoder(tokens(3, 1)[i : i + 1], one_row, stack, filled(base))
                assert torch.equal(together[i : i + 1], alone)
    worn = MixedStack([((one, 1.0),), ((two, 1.0),)], [4, 1])
    layout = Layout([4, 1], starts=[3, 11], slots=[0, 2])
    torch.testing.assert_close(*both_ways(base, layout, worn, monkeypatch), atol=2e-5, rtol=1e-4)


def test_an_adapter_may_learn_and_may_be_given_other_tensors(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    worn = adapter(base)
    both_ways(base, NEXT, ((worn, 1.0),), monkeypatch)
    delta = worn.deltas["model.layers.0.self_attn.q_proj"]
    with torch.no_grad():
        delta.lora_A.mul_(3)
    delta.lora_B = torch.nn.Parameter(torch.randn(delta.lora_B.shape))
    torch.testing.assert_close(*both_ways(base, NEXT, ((worn, 1.0),), monkeypatch), atol=2e-5, rtol=1e-4)


def test_dora_a_gradient_and_a_long_batch_go_the_other_way(base: Base) -> None:
    cache, step = KVCache(base.decoder.config, 2), base.decoder._step
    with torch.inference_mode():
        assert step.takes(Layout([most_rows()]), (), cache)
        assert not step.takes(Layout([most_rows() + 1]), (), cache)
        mixed = MixedStack([(), ((adapter(base), 1.0),)], [1, most_rows(2) - 1])
        assert step.takes(Layout([most_rows(2)]), mixed, cache)
        assert not step.takes(Layout([1]), ((adapter(base, use_dora=True), 1.0),), cache)
        assert not step.takes(Layout([1]), (), KVCache(base.decoder.config, 2, int8=True))
    assert not step.takes(Layout([1]), (), cache)


def test_a_row_is_the_same_to_the_bit_alone_and_among_others_on_any_threads(base: Base, threads: None) -> None:
    stack = ((adapter(base), 1.0),)
    with torch.inference_mode():
        alone = []
        for i, (start, slot) in enumerate(zip(NEXT.starts, NEXT.slots)):
            torch.set_num_threads(1)
            cache = filled(base)
            one = Layout([1], starts=[start], slots=[slot])
            alone.append(base.decoder(tokens(3, 1)[i : i + 1], one, stack, cache))
        for n in (1, 2, 3):
            cache = filled(base)
            torch.set_num_threads(n)
            assert torch.equal(base.decoder(tokens(3, 1), NEXT, stack, cache), torch.cat(alone))
            torch.set_num_threads(1)


def test_every_instruction_set_gives_the_same_logits_to_1e_5(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    results, run = [], decode.run
    for number in native.instruction_sets():
        monkeypatch.setattr(decode, "run", lambda m, s, n=number: run(m, s, instruction_set=n))
        with torch.inference_mode():
            results.append(base.decoder(tokens(3, 1), NEXT, ((adapter(base), 1.0),), filled(base)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-5, rtol=1e-5)


def test_a_place_outside_the_cache_is_refused_before_a_pointer_is_followed(base: Base) -> None:
    with torch.inference_mode():
        cache = KVCache(base.decoder.config, 3)
        cache.place(0, [2])
        for bad in (Layout([1], starts=[16]), Layout([3], starts=[14]), Layout([1], starts=[2], slots=[2])):
            with pytest.raises(ShapeMismatch, match="room for"):
                base.decoder(tokens(bad.n_tokens), bad, (), cache)


def test_structures_are_filled_only_from_tensors_the_library_can_walk_over() -> None:
    data = torch.zeros(4, 36, dtype=torch.uint8)
    with pytest.raises(ShapeMismatch, match="where 96 are needed"):
        decode.matrix(data, "Q4_0", 96, None)
    for bad in (torch.zeros(3), torch.zeros(4, dtype=torch.float64), torch.zeros(8)[::2]):
        with pytest.raises(ShapeMismatch, match="contiguous float32"):
            decode.matrix(data, "Q4_0", 64, bad)
    with pytest.raises(ShapeMismatch, match="contiguous float32"):
        decode.lora(torch.zeros(2, 8), torch.zeros(5, 3), 8, 1.0)


def test_a_model_of_a_type_the_library_does_not_know_is_refused(base: Base) -> None:
    plan = base.decoder._step._planned()
    broken = decode.Model.from_buffer_copy(plan.model)
    layers = (decode.Layer * plan.model.n_layers).from_buffer_copy(plan._layers)
    layers[1].parts[0].ggml_id = 99
    broken.layers = layers
    with pytest.raises(ShapeMismatch, match="does not take these blocks"):
        decode.run(broken, decode.Step())
