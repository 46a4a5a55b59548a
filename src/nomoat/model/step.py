"""A few new tokens through the whole decoder in one compiled call: the fast twin of ``Decoder.forward``."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nomoat.kernels import decode, native, quick
from nomoat.model.cache import KVCache, Layout
from nomoat.model.config import Rope
from nomoat.model.delta import AnyStack, MixedStack, Stack, Wearable
from nomoat.model.step_plan import AdapterTable, Plan, table_of

if TYPE_CHECKING:
    from nomoat.model.decoder import Decoder

MAX_ROWS = 64  # beyond, expanding every matrix once and multiplying in float32 is as fast
MAX_ROWS_WITH_TILES = 16  # beyond, its products on tiles are faster; not its adapters, run by run

AnglesOf = Callable[[Rope], tuple[Tensor, Tensor]]  # cosine and sine, (T, 1, half) each


class DecodeStep:
    """One decoder's compiled step. The plan is made at the first use, adapters' tables when they are first worn."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = weakref.ref(decoder)
        self._plan: Plan | None = None
        self._tables: weakref.WeakKeyDictionary[Wearable, AdapterTable | None] = weakref.WeakKeyDictionary()

    def takes(self, layout: Layout, stack: AnyStack, cache: KVCache) -> bool:
        """Whether ``run`` gives what ``Decoder.forward`` would."""
        runs = _runs(layout, stack)
        if layout.n_tokens > most_rows(len(runs)) or torch.is_grad_enabled() or not native.available():
            return False
        if quick.are_rounded():
            return False
        worn = (adapter for own, _ in runs for adapter, _ in own)
        return not cache.int8 and cache.keys.is_cpu and all(self._table(adapter) is not None for adapter in worn)

    def run(self, x: Tensor, layout: Layout, stack: AnyStack, cache: KVCache, angles: AnglesOf) -> Tensor:
        """Hidden states after the last norm. x, the embeddings (T, D), is used up; the cache is extended. (T, D).

        Raises ``ShapeMismatch`` where the layout and the cache do not fit each other.
        """
        plan, held = self._planned(), _Held()
        step = decode.Step(rows=layout.n_tokens, x=decode.floats(x, layout.n_tokens, plan.model.d_model))
        out = torch.empty_like(x)
        step.out = out.data_ptr()
        _place(step, layout, cache, held)
        tables = [held.angles(*angles(rope)) for rope in plan.ropes]
        step.angles = (decode.Angles * max(1, len(tables)))(*tables)
        runs = [held.run(rows, self._worn(own)) for own, rows in _runs(layout, stack)]
        step.runs, step.n_runs = (decode.Run * len(runs))(*runs), len(runs)
        decode.run(plan.model, step)
        return out

    def _planned(self) -> Plan:
        if self._plan is None:
            decoder = self._decoder()
            assert decoder is not None
            self._plan = Plan(decoder)
        return self._plan

    def _table(self, adapter: Wearable) -> AdapterTable | None:
        known = self._tables.get(adapter)
        if known is None or not known.current():
            known = self._tables[adapter] = table_of(adapter, self._planned())
        return known

    def _worn(self, stack: Stack) -> list[decode.Worn]:
        worn: list[decode.Worn] = []
        for adapter, strength in stack:
            table = self._table(adapter)
            if table is not None and strength != 0.0:
                worn += [decode.Worn(loras, sign * strength) for loras, sign in table.tables]
        return worn


def most_rows(n_runs: int = 1) -> int:
    """Up to how many tokens, in runs of one stack, a compiled step is faster than ``Decoder.forward`` here."""
    return MAX_ROWS_WITH_TILES if native.has_tiles() and n_runs == 1 else MAX_ROWS


def _runs(layout: Layout, stack: AnyStack) -> list[tuple[Stack, int]]:
    """Stacks, each with how many rows wear it, in the rows' order."""
    if not isinstance(stack, MixedStack):
        return [(stack, layout.n_tokens)]
    return [(own, rows.stop - rows.start) for own, rows in stack.runs]


class _Held:
    """What a step points to, for as long as it runs."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def address(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def angles(self, cosine: Tensor, sine: Tensor) -> decode.Angles:
        return decode.Angles(self.address(cosine.contiguous()), self.address(sine.contiguous()), cosine.shape[-1])

    def run(self, rows: int, worn: list[decode.Worn]) -> decode.Run:
        return decode.Run(rows, len(worn), (decode.Worn * max(1, len(worn)))(*worn))


def _place(step: decode.Step, layout: Layout, cache: KVCache, held: _Held) -> None:
    """Where every row of the step stands, in the cache and in its text. Raises ``ShapeMismatch`` without a place."""
    places = [held.address(one) for one in cache.places(layout)]
    rows = [place for place, length in zip(places, layout.lengths) for _ in range(length)]
    step.places, step.positions = (ctypes.c_void_p * len(rows))(*rows), held.address(layout.positions())
    step.keys = decode.floats(cache.keys, *cache.keys.shape)
    step.values = decode.floats(cache.values, *cache.keys.shape)
    step.layer_stride = cache.keys.stride(0)
