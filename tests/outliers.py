"""A tiny base with outliers planted in it, as real models have them in a few columns of their activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tiny import tiny_folder

_COLUMNS = [5, 77]
_SIZE = 100


def outlier_folder(folder: Path) -> Path:
    """Its norms blow up two columns a hundredfold, and the matrices behind them shrink these: the function stays."""
    tiny_folder(folder, hidden_size=128, intermediate_size=256, head_dim=32)
    weights = load_file(folder / "model.safetensors")
    for name, values in weights.items():
        if name.endswith("layernorm.weight"):
            values[_COLUMNS] *= _SIZE
        elif values.ndim == 2 and values.shape[1] == 128 and "embed" not in name and "o_proj" not in name:
            values[:, _COLUMNS] /= _SIZE
    save_file({name: np.ascontiguousarray(values) for name, values in weights.items()}, folder / "model.safetensors")
    return folder
