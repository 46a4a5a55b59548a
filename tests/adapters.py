"""Adapters with random factors for the tests of the stack: nothing in them is zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig, is_embedding
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


def with_random_biases(adapter: Adapter, seed: int, *modules: str, spread: float = 0.1) -> Adapter:
    """The adapter with biases on its modules, on those alone whose names end so where some are named."""
    generator = torch.Generator().manual_seed(seed)
    for module, delta in adapter.deltas.items():
        if not is_embedding(module) and (not modules or module.endswith(modules)):
            delta.bias = torch.randn(delta.lora_B.shape[0], generator=generator) * spread
    return adapter


def saved(adapter: Adapter, folder: Path) -> Path:
    """The adapter as a PEFT folder."""
    folder.mkdir(parents=True)
    save_adapter(adapter, folder)
    return folder


def dense(adapter: Adapter, base: Base) -> dict[str, torch.Tensor]:
    """What the adapter adds to every module, as full matrices."""
    return {module: update.dense() for module, update in updates_of(adapter, base.decoder).items()}


def strong_adapter(base: Base, config: AdapterConfig, *, seed: int = 0, size: float = 0.3) -> Adapter:
    """An adapter whose update is about ``size`` times as large as the base's matrices are, in every module."""
    adapter = base.new_adapter(config, seed=seed, name=f"random-{seed}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            for factor in (delta.lora_A, delta.lora_B):
                factor.copy_(torch.randn(factor.shape, generator=generator))
            scale = size / (abs(delta.scaling) * delta.rank**0.5 * delta.lora_A.shape[1] ** 0.5)
            delta.lora_B.mul_(scale)
            if delta.magnitude is not None:
                delta.magnitude.mul_(1 + 0.2 * torch.randn(delta.magnitude.shape, generator=generator))
    return adapter
