"""Options defined once: described, and read from text with every mistake named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nomoat.core.errors import UsageError
from nomoat.core.options import describe, option, parse_size, parse_values


@dataclasses.dataclass(frozen=True)
class Baking:
    rank: int = option(16, "how many")
    rate: float = option(0.5, "how fast", metavar="RATE")
    mode: str = option("slow", "which way", choices=("slow", "quick"))
    dry: bool = option(False, "only say")
    names: tuple[str, ...] = option((), "which")
    limit: str | None = option(None, "up to")
    pattern: dict[str, float] | None = option(None, "by module")  # noqa: RUF009


def test_describe_lists_the_fields_in_order_with_their_flags() -> None:
    specs = describe(Baking)
    assert [spec.flag for spec in specs][:3] == ["--rank", "--rate", "--mode"]
    assert specs[1].metavar == "RATE" and specs[2].choices == ("slow", "quick")
    assert [spec.name for spec in specs if spec.optional] == ["limit", "pattern"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rank": "8"}, {"rank": 8}),
        ({"rate": "1e-3"}, {"rate": 1e-3}),
        ({"dry": "yes"}, {"dry": True}),
        ({"dry": "off"}, {"dry": False}),
        ({"names": "a, b,"}, {"names": ("a", "b")}),
        ({"names": ["a"]}, {"names": ("a",)}),
        ({"limit": None}, {"limit": None}),
        ({"pattern": "q_proj=32,mlp.down_proj=8"}, {"pattern": {"q_proj": 32.0, "mlp.down_proj": 8.0}}),
    ],
)
def test_text_becomes_values(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parse_values(Baking, values) == Baking(**expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": "many"}, "--rank cannot be 'many'"),
        ({"mode": "fast"}, "--mode cannot be 'fast'"),
        ({"dry": "perhaps"}, "--dry cannot be 'perhaps'"),
        ({"pattern": "q_proj"}, "--pattern cannot be 'q_proj'"),
        ({"rnak": 3}, "no option 'rnak'"),
    ],
)
def test_a_mistake_is_named_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_values(Baking, values, where="config.toml")
    assert caught.value.message.startswith("config.toml: ")
    assert "literal" not in caught.value.hint, "Python's own words help nobody"


def test_a_misspelt_option_is_answered_with_the_near_one() -> None:
    with pytest.raises(UsageError) as caught:
        parse_values(Baking, {"rnak": 3})
    assert "'rank'" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("10", 10), ("2 kb", 2048)]
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "four", "4X", "-1G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
