"""The configuration of a Hugging Face model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nomoat.formats.bounded_json import read_object

CONFIG = "config.json"


def is_hf_folder(path: Path) -> bool:
    """Whether ``path`` is a folder with a model configuration; its weights are looked at by who opens it."""
    return (path / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` as it is. Raises ``NotFound`` and ``BadHeader``."""
    return read_object(folder / CONFIG)
