"""LLaMA-Factory's ``dataset_info.json``: which file, and how its columns and tags are called.

Keys as its documentation of the data folder describes them: ``file_name``, ``formatting`` (``alpaca``, the default,
or ``sharegpt``), ``columns``, ``tags``, ``ranking``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nomoat.core.errors import DataError, UsageError
from nomoat.data.convert import Raw
from nomoat.data.json_files import parse
from nomoat.data.plain_text import read_text

FILE = "dataset_info.json"
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_TAGS = {
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """One entry of the file: turns its rows into plain alpaca, sharegpt or preference rows."""

    name: str
    formatting: str
    columns: dict[str, str]
    tags: dict[str, str]

    def apply(self, raw: Raw) -> Raw:
        """The row under the names that the kinds know."""
        if self.formatting == "alpaca":
            names = {self.columns.get(key, known): known for key, known in _ALPACA.items()}
            listed: tuple[str, ...] = ("system", "history", "tools", "images", "chosen", "rejected")
        else:
            names = {self.columns.get("messages", "conversations"): "conversations"}
            listed = ("system", "tools", "images", "videos", "audios", "chosen", "rejected")
        names |= {self.columns[key]: key for key in listed if key in self.columns}
        names |= {self.columns["kto_tag"]: "kto_tag"} if "kto_tag" in self.columns else {}
        renamed = {names[field]: value for field, value in raw.items() if field in names}
        if isinstance(renamed.get("conversations"), list):
            renamed["conversations"] = [self._turn(turn) for turn in renamed["conversations"]]
        if self.formatting == "alpaca" and set(renamed) == {"instruction"}:
            return {"text": renamed["instruction"]}  # a prompt column alone is text for pretraining
        return renamed

    def _turn(self, turn: Any) -> Any:
        if not isinstance(turn, dict):
            return turn
        roles = {self.tags.get(tag, known): known for tag, known in _TAGS.items()}
        role = turn.get(self.tags.get("role_tag", "from"))
        known_role = roles.get(role, role) if isinstance(role, str) else role
        return {"from": known_role, "value": turn.get(self.tags.get("content_tag", "value"))}


def entries(folder: Path) -> dict[str, tuple[Path, Mapping]]:
    """The data sets whose file stands in the folder, by name."""
    file = folder / FILE
    listed = parse(read_text(file, 16 << 20), file=file)
    if not isinstance(listed, dict):
        raise DataError("must be an object of data sets by name", file=file)
    found = {}
    for name, entry in listed.items():
        target = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(target, str) or not _is_inside(folder, target):
            continue  # lives on a hub, is made by a script, or was not downloaded
        if (folder / target).is_file():
            found[name] = (folder / target, _mapping(name, entry, file))
    return found


def _is_inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _mapping(name: str, entry: dict[str, Any], file: Path) -> Mapping:
    formatting = entry.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt"):
        raise DataError(f"{formatting!r} is neither alpaca nor sharegpt", file=file, field=f"{name}.formatting")
    for part in ("columns", "tags"):
        given = entry.get(part, {})
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise DataError("must map names to names", file=file, field=f"{name}.{part}")
    return Mapping(name, formatting, entry.get("columns", {}), entry.get("tags", {}))


def choose(folder: Path, dataset: str) -> tuple[Path, Mapping]:
    """The entry that the user named, or the only one there is."""
    found = entries(folder)
    if not found:
        raise UsageError(f"{folder / FILE} lists no file that stands in its folder")
    if not dataset and len(found) > 1:
        raise UsageError(
            f"{folder} holds {len(found)} data sets: {', '.join(found)}", hint=f"--dataset {next(iter(found))}"
        )
    if dataset and dataset not in found:
        raise UsageError(f"{folder} has no data set {dataset!r}", hint=f"one of: {', '.join(found)}")
    return found[dataset or next(iter(found))]
