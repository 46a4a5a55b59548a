"""What a request wears, as far as the cache cares."""

from __future__ import annotations

from nomoat.model.config import ModelConfig
from nomoat.model.delta import Stack, Wearable, stack_key

_AFTER_KEYS = (
    "self_attn.q_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.gate_up_proj",
    "mlp.down_proj",
)


class Wear:
    """The adapters that keys and values were computed under: equal for the same objects at the same weights.

    It holds the adapters, so that no other can come to stand where one of them stood in memory.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = tuple(stack)
        self._key = stack_key(stack)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wear) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def cached_under(stack: Stack, config: ModelConfig) -> Wear:
    """What of a stack can change keys and values: an adapter on nothing but the head, or on what follows the keys of
    the last layer, cannot, so such stacks share what was read, with each other and with the base.
    """
    return Wear([(adapter, weight) for adapter, weight in stack if weight != 0.0 and _changes_keys(adapter, config)])


def _changes_keys(adapter: Wearable, config: ModelConfig) -> bool:
    last = f"model.layers.{config.n_layers - 1}."
    harmless = {"lm_head", *(last + part for part in _AFTER_KEYS)}
    return any(module not in harmless for module in adapter.deltas)
