"""Presets give each tensor the type that llama.cpp's presets give it."""

from __future__ import annotations

import pytest

from nomoat.export.presets import PRESETS, type_of

WIDE = (512, 512)


def layers(name: str, preset: str, n_layers: int) -> list[int]:
    """The layers in which the tensor gets more bits than most."""
    plain = PRESETS[preset].type
    types = [type_of(f"blk.{i}.{name}.weight", WIDE, preset, n_layers=n_layers, tied=False) for i in range(n_layers)]
    return [i for i, type in enumerate(types) if type != plain]


def test_the_first_and_last_eighth_and_every_third_layer_between_get_more() -> None:
    # llama-quantize's own log of a Q4_K_M of a 24-layer Qwen2.5
    expected = [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]
    assert layers("attn_v", "Q4_K_M", 24) == layers("ffn_down", "Q5_K_M", 24) == expected
    assert layers("attn_q", "Q4_K_M", 24) == layers("ffn_down", "Q4_0", 24) == []


@pytest.mark.parametrize(
    ("name", "shape", "preset", "tied", "expected"),
    [
        ("output.weight", WIDE, "Q4_K_M", False, "Q6_K"),
        ("output.weight", WIDE, "Q4_0", False, "Q6_K"),
        ("output.weight", WIDE, "Q8_0", False, "Q8_0"),
        ("token_embd.weight", WIDE, "Q4_K_M", False, "Q4_K"),
        ("token_embd.weight", WIDE, "Q4_K_M", True, "Q6_K"),
        ("token_embd.weight", (512, 576), "Q4_K_M", True, "Q8_0"),
        ("token_embd.weight", WIDE, "F16", True, "F16"),
        ("blk.0.attn_qkv.weight", WIDE, "Q4_K_M", False, "Q5_K"),
        ("blk.0.attn_qkv.weight", WIDE, "Q5_K_M", False, "Q6_K"),
        ("blk.3.attn_q.weight", (512, 576), "Q4_K_M", False, "Q5_0"),
        ("blk.3.attn_q.weight", (512, 576), "Q5_K_M", False, "Q5_1"),
        ("blk.3.attn_q.weight", (512, 576), "Q6_K", False, "Q8_0"),
        ("blk.3.attn_q.weight", (512, 30), "Q4_0", False, "F16"),
        ("blk.3.attn_norm.weight", (512,), "Q4_0", False, "F32"),
        ("blk.3.attn_q.bias", (512,), "F16", False, "F32"),
    ],
)
def test_single_tensors(name: str, shape: tuple[int, ...], preset: str, tied: bool, expected: str) -> None:
    assert type_of(name, shape, preset, n_layers=24, tied=tied) == expected
