"""An Ollama ``Modelfile``: what to load, how to speak, where to stop.

Format: docs/modelfile.md of the ollama repository.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from nomoat.core.errors import UsageError
from nomoat.export.ollama_template import OllamaTemplate

_QUOTES = '"""'


@dataclasses.dataclass(frozen=True, slots=True)
class Modelfile:
    """``model`` and ``adapter`` are paths as Ollama will see them; ``context`` in tokens."""

    model: str
    adapter: str
    template: OllamaTemplate
    stops: tuple[str, ...]
    context: int
    licence: str = ""

    def text(self) -> str:
        """The file. Raises ``UsageError`` for text that its quotes cannot hold."""
        lines = [f"FROM {self.model}", *([f"ADAPTER {self.adapter}"] if self.adapter else [])]
        lines.append(f"TEMPLATE {_block('the template', self.template.source)}")
        if self.template.system:
            lines.append(f"SYSTEM {_block('the system message', self.template.system)}")
        lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in self.stops]
        lines.append(f"PARAMETER num_ctx {self.context}")
        if self.licence:
            lines.append(f"LICENSE {_block('the licence', self.licence)}")
        return "\n".join(lines) + "\n"


def _block(what: str, text: str) -> str:
    if _QUOTES in text:
        raise UsageError(f'{what} holds """, which a Modelfile cannot say')
    return f"{_QUOTES}{text}{_QUOTES}"


def stops_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Every text at which an answer ends, in a stable order."""
    return tuple(sorted({text for text in texts if text}))
