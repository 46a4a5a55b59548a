"""Adapters as PEFT folders: written so that ``peft`` and vLLM load them as they are, read with care."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nomoat.core.errors import AdapterMismatch, FormatError, UnsupportedType
from nomoat.formats.peft import AdapterFiles, read_adapter, write_adapter
from nomoat.model.adapter_bias import peft_form, take_whole
from nomoat.model.adapters import SCORE, Adapter, AdapterConfig, adaptable, is_embedding, layer_of
from nomoat.model.decoder import Decoder
from nomoat.model.delta import Delta
from nomoat.model.fingerprint import Fingerprint
from nomoat.model.frozen import FrozenWeight

FINGERPRINT_KEY = "nomoat.base"
_PREFIX = "base_model.model."
_SUFFIXES = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_B.bias": "bias",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}


def save_adapter(adapter: Adapter, folder: Path, base: Decoder | None = None) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into an existing folder.

    An anchored adapter (PiSSA) is written as the plain LoRA of twice the rank that it equals. ``base`` is needed for
    biases beside DoRA or embeddings (``adapter_bias.py``). Raises ``UsageError`` where peft has no form for them.
    """
    anchored = any(delta.anchor is not None for delta in adapter.deltas.values())
    config = _doubled(adapter.config) if anchored else adapter.config
    tensors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    for name, parameter in adapter.parameters().items():
        tensors[name] = parameter.detach().contiguous().numpy()
    for module, delta in adapter.deltas.items():
        if delta.anchor is not None:
            held_a, held_b = delta.anchor
            a = torch.cat([delta.lora_A.detach(), held_a])
            b = torch.cat([delta.lora_B.detach(), -held_b], dim=1)
            tensors[f"{_PREFIX}{module}.lora_A.weight"] = a.numpy()
            tensors[f"{_PREFIX}{module}.lora_B.weight"] = b.contiguous().numpy()
    bias_keys, biases = peft_form(adapter, base)
    metadata = {}
    if adapter.base_fingerprint is not None:
        metadata[FINGERPRINT_KEY] = json.dumps(adapter.base_fingerprint.as_dict())
    write_adapter(folder, _peft_config(adapter, config) | bias_keys, tensors | biases, metadata=metadata)


def _doubled(config: AdapterConfig) -> AdapterConfig:
    """The configuration of twice the rank with the same scaling."""
    stretch = math.sqrt(2) if config.use_rslora else 2
    return dataclasses.replace(
        config,
        rank=2 * config.rank,
        alpha=stretch * config.alpha,
        init="kaiming",
        rank_pattern={key: 2 * rank for key, rank in config.rank_pattern.items()},
        alpha_pattern={key: stretch * alpha for key, alpha in config.alpha_pattern.items()},
    )


def _peft_config(adapter: Adapter, config: AdapterConfig) -> dict[str, Any]:
    revision = adapter.base_fingerprint.exact[:40] if adapter.base_fingerprint else None
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if adapter.score is None else "SEQ_CLS",
        "base_model_name_or_path": adapter.base_name,
        "revision": revision,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": _peft_targets(adapter),
        "modules_to_save": None if adapter.score is None else [SCORE],
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
    }


def _peft_targets(adapter: Adapter) -> list[str]:
    """Ends of names where every layer has the module, whole names elsewhere."""
    by_end: dict[str, list[str]] = {}
    for module in adapter.deltas:
        by_end.setdefault(module.rsplit(".", 1)[-1], []).append(module)
    layers = [layer for module in adapter.deltas if (layer := layer_of(module)) is not None]
    if layers and min(layers) > 0:  # ends would have PEFT attach to the layers below as well
        return sorted(adapter.deltas)
    counts = {len(modules) for end, modules in by_end.items() if end not in ("lm_head", "embed_tokens")}
    if len(counts) <= 1 and adapter.config.target_modules:
        return sorted(by_end)
    return sorted(adapter.deltas)


def load_adapter(folder: Path, decoder: Decoder, *, name: str, base_name: str, fingerprint: Fingerprint) -> Adapter:
    """Read a PEFT folder for this base.

    Raises ``AdapterMismatch`` naming both bases when it belongs to another, ``FormatError`` when it is damaged,
    ``UnsupportedType`` for kinds of adapter that the decoder does not run.
    """
    files = read_adapter(folder)
    trained_on = str(files.config.get("base_model_name_or_path") or "an unnamed base")
    known = _stored_fingerprint(files.metadata)
    if known is not None and (why := known.difference(fingerprint)):
        raise AdapterMismatch(name, expected=trained_on, got=base_name, why=why)
    if files.config.get("fan_in_fan_out"):
        raise UnsupportedType("fan_in_fan_out adapters are for GPT-2's layers, which we do not run", file=folder)
    config = _config_from_peft(files.config)
    factors = _grouped(files.tensors, folder)
    weights = adaptable(decoder)
    deltas = {}
    for module, parts in factors.items():
        if module not in weights:
            raise AdapterMismatch(name, expected=trained_on, got=base_name, why=f"it has no module {module!r}")
        deltas[module] = _delta(module, parts, config, folder)
        _check_shape(deltas[module], module, weights[module].shape, name, trained_on, base_name)
    whole = {module: values for module, values in files.saved.items() if module != SCORE}
    for module, values in whole.items():
        if module not in weights or tuple(values.shape) != weights[module].shape:
            why = f"it has no module {module!r} of {values.shape[0]}x{values.shape[1]}"
            raise AdapterMismatch(name, expected=trained_on, got=base_name, why=why)
        deltas[module] = whole_delta(module, torch.from_numpy(np.array(values)), weights[module])
    trained = set(deltas)
    if (lacking := take_whole(deltas, files.biases, decoder)) is not None:
        why = f"{lacking} has no bias of {len(files.biases[lacking])}"
        raise AdapterMismatch(name, expected=trained_on, got=base_name, why=why)
    biased = [module for module in deltas if module not in trained]
    config = with_whole(config, {module: deltas[module].rank for module in (*whole, *biased)})
    score = _score(files, decoder.config.d_model, folder)
    return Adapter(name, dataclasses.replace(config, reward_head=score is not None), deltas, trained_on, known, score)


def _score(files: AdapterFiles, d_model: int, folder: Path) -> nn.Parameter | None:
    """The head of a reward model, where the folder holds one; a classifier of several labels is none."""
    values = files.saved.get(SCORE)
    if values is None:
        return None
    if values.shape != (1, d_model):
        raise UnsupportedType(f"a head of shape {values.shape}: a reward model's is (1, {d_model})", file=folder)
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)))


def whole_delta(module: str, matrix: torch.Tensor, weight: FrozenWeight) -> Delta:
    """A matrix that takes the base's place, as the update of full rank that leads to it. Shape as the base has it."""
    change = matrix - weight.expand()
    change = change.T if is_embedding(module) else change  # (out, in)
    out_dim, in_dim = change.shape
    a, b = (change, torch.eye(out_dim)) if out_dim <= in_dim else (torch.eye(in_dim), change)
    return Delta(nn.Parameter(a.contiguous()), nn.Parameter(b.contiguous()), 1.0)


def with_whole(config: AdapterConfig, ranks: Mapping[str, int]) -> AdapterConfig:
    """The configuration with modules of full rank at scaling 1, so that it says what was read."""
    alphas = {module: math.sqrt(rank) if config.use_rslora else float(rank) for module, rank in ranks.items()}
    return dataclasses.replace(
        config,
        rank_pattern={**ranks, **{key: rank for key, rank in config.rank_pattern.items() if key not in ranks}},
        alpha_pattern={**alphas, **{key: alpha for key, alpha in config.alpha_pattern.items() if key not in ranks}},
    )


def _stored_fingerprint(metadata: Mapping[str, str]) -> Fingerprint | None:
    try:
        values = json.loads(metadata.get(FINGERPRINT_KEY, "null"))
    except ValueError:
        return None
    return Fingerprint.from_dict(values) if isinstance(values, dict) else None


def _config_from_peft(config: Mapping[str, Any]) -> AdapterConfig:
    targets = config.get("target_modules") or ()
    return AdapterConfig(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        target_modules=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
        use_rslora=bool(config.get("use_rslora")),
        use_dora=bool(config.get("use_dora")),
        rank_pattern=config.get("rank_pattern") or {},
        alpha_pattern=config.get("alpha_pattern") or {},
    )


def _grouped(tensors: Mapping[str, Any], folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Module name -> its factors by letter."""
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for key, array in tensors.items():
        suffix = next((end for end in _SUFFIXES if key.endswith(end)), None)
        if suffix is None or not key.startswith(_PREFIX):
            raise UnsupportedType(f"tensor {key!r} is not part of a LoRA adapter", file=folder)
        module = key.removeprefix(_PREFIX).removesuffix(suffix)
        own = np.require(array, np.float32, ["C", "W"])  # as it was read: no second copy
        grouped.setdefault(module, {})[_SUFFIXES[suffix]] = torch.from_numpy(own)
    return grouped


def _delta(module: str, parts: dict[str, torch.Tensor], config: AdapterConfig, folder: Path) -> Delta:
    if "A" not in parts or "B" not in parts:
        raise FormatError(f"{module} has only one of its two factors", file=folder)
    a, b = parts["A"], parts["B"]
    if a.shape[0] != b.shape[1] or a.shape[0] != config.rank_of(module):
        raise FormatError(
            f"{module}: factors of rank {a.shape[0]} and {b.shape[1]}, configuration says {config.rank_of(module)}",
            file=folder,
        )
    magnitude = parts.get("magnitude")
    if (magnitude is not None) != config.use_dora:
        raise FormatError(f"{module}: use_dora and the stored tensors disagree", file=folder)
    held = None if magnitude is None else nn.Parameter(magnitude.reshape(-1))
    scaling = config.scaling_of(module)
    bias = parts["bias"] * scaling if "bias" in parts and bool(parts["bias"].any()) else None  # peft's are all or none
    return Delta(nn.Parameter(a), nn.Parameter(b), scaling, held, bias=bias)


def _check_shape(delta: Delta, module: str, shape: tuple[int, int], name: str, trained_on: str, base_name: str) -> None:
    out_dim, in_dim = shape[::-1] if module.endswith("embed_tokens") else shape
    if delta.lora_A.shape[1] != in_dim or delta.lora_B.shape[0] != out_dim:
        got = f"{delta.lora_B.shape[0]}x{delta.lora_A.shape[1]}"
        raise AdapterMismatch(
            name,
            expected=trained_on,
            got=base_name,
            why=f"{module} is {out_dim}x{in_dim}, the adapter's {got}",
        )
