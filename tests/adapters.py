"""Adapters with random factors for the tests of the stack: nothing in them is zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.load import Base
from nomoat.stack.update import updates_of


def random_adapter(base: Base, name: str, seed: int, *, spread: float = 0.1, **config: Any) -> Adapter:
    """An adapter over ``base`` whose factors, and magnitudes, are moved at random."""
    adapter = base.new_adapter(AdapterConfig(**config), seed=seed, name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return adapter


def saved(adapter: Adapter, folder: Path) -> Path:
    """The adapter as a PEFT folder."""
    folder.mkdir(parents=True)
    save_adapter(adapter, folder)
    return folder


def dense(adapter: Adapter, base: Base) -> dict[str, torch.Tensor]:
    """What the adapter adds to every module, as full matrices."""
    return {module: update.dense() for module, update in updates_of(adapter, base.decoder).items()}
