"""AlpacaEval's lists: prompts, one model's outputs, and annotations of pairs.

Outputs: ``instruction``, ``output``, ``generator``. Annotations: ``output_1`` of ``generator_1`` (the baseline),
``output_2`` of ``generator_2``, and ``preference``: 1 to 2, where 2 is the second output for certain and 1.5 (once also
0) a tie. Dubois et al. 2024, arXiv 2404.04475.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import DataError
from nomoat.core.files import write_json
from nomoat.data.json_files import read_lines, read_values
from nomoat.data.rows import Place, check_text
from nomoat.judge.topics import Topic

_TIES: Final = (0.0, 1.5)


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """``points``: what ``model`` gets against ``baseline``, 0 to 1; ``longer`` in characters."""

    instruction: str
    model: str
    baseline: str
    points: float
    longer: int


def read_prompts(path: Path) -> list[Topic]:
    """The instructions of a file of prompts or of outputs. Raises ``DataError`` with the row."""
    topics = []
    for raw, place in _rows(path):
        text = _text(raw, "instruction", place)
        category = raw.get("dataset", "")
        topics.append(Topic(text, category if isinstance(category, str) else "", ({"role": "user", "content": text},)))
    if not topics:
        raise DataError("holds no instructions", file=path)
    return topics


def read_outputs(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Outputs by model, each under its instruction.

    Of one file; of a folder's ``<model>/model_outputs.json``, or where it has none, of its ``.json`` files.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    inside = sorted(path.glob("*/model_outputs.json")) or sorted(path.glob("*.json"))
    for file in inside if path.is_dir() else [path]:
        for raw, place in _rows(file):
            model = _text(raw, "generator", place)
            found.setdefault(model, {})[_text(raw, "instruction", place)] = (_text(raw, "output", place),)
    return found


def read_annotations(path: Path) -> list[Annotation]:
    """The annotations of a file that hold a preference. Raises ``DataError`` with the row."""
    found = []
    for raw, place in _rows(path):
        preference = raw.get("preference")
        if preference is None:
            continue
        if not isinstance(preference, (int, float)) or not (preference == 0 or 1 <= preference <= 2):
            raise place.error("must be 0 or a number from 1 to 2", field="preference")
        texts = {name: _text(raw, name, place) for name in _FIELDS}
        if not math.isfinite(preference) or texts["generator_1"] == texts["generator_2"]:
            raise place.error("compares a model with itself", field="generator_2")
        found.append(
            Annotation(
                instruction=texts["instruction"],
                model=texts["generator_2"],
                baseline=texts["generator_1"],
                points=0.5 if preference in _TIES else float(preference) - 1,
                longer=len(texts["output_2"]) - len(texts["output_1"]),
            )
        )
    return found


_FIELDS: Final = ("instruction", "generator_1", "generator_2", "output_1", "output_2")


def write_outputs(path: Path, model: str, said: Mapping[str, Sequence[str]]) -> None:
    """A model's outputs; of several turns the last."""
    rows = [{"instruction": text, "output": turns[-1], "generator": model} for text, turns in said.items()]
    write_json(path, rows)


def write_annotations(path: Path, rows: Sequence[Mapping[str, Any]], annotator: str) -> None:
    """Annotations: each row has the fields above and its preference."""
    write_json(path, [{**row, "annotator": annotator} for row in rows])


def _rows(path: Path) -> list[tuple[dict[str, Any], Place]]:
    reader = read_lines if path.suffix == ".jsonl" else read_values
    rows = []
    for number, (line, raw) in enumerate(reader(path), start=1):
        place = Place(str(path), line, number)
        if not isinstance(raw, dict):
            raise place.error("must be an object")
        rows.append((raw, place))
    return rows


def _text(raw: Mapping[str, Any], field: str, place: Place) -> str:
    value = raw.get(field)
    if not isinstance(value, str):
        raise place.error("must be text", field=field)
    return check_text(value, place, field)
