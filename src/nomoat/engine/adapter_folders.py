"""The PEFT folder that a word means, and the base that an adapter says it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from nomoat.core.artefacts import read_kind
from nomoat.core.bases import looks_like_path, resolve_base
from nomoat.core.errors import FormatError, NotFound, UsageError
from nomoat.core.store import Store, read_lineage

CONFIG_FILE = "adapter_config.json"


def adapter_folder(store: Store, word: str) -> Path:
    """The PEFT folder that a name (``sql``, ``adapters/sql``) or a path means. Raises ``NotFound``."""
    kind, slash, rest = word.partition("/")
    if slash and kind == "adapters" and rest in store.names("adapters"):
        return store.find("adapters", rest)
    if not looks_like_path(word):
        return store.find("adapters", word)
    folder = Path(word).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        raise NotFound(f"{word} is not an adapter folder: it has no {CONFIG_FILE}", hint="nomoat ls")
    return folder


def head_adapter(store: Store, head: str) -> Path | None:
    """The folder of a head that is an adapter. A base of the same name comes first."""
    if head in store.names("bases") or head in store.names("models"):
        return None
    is_stored = head.removeprefix("adapters/") in store.names("adapters")
    is_folder = looks_like_path(head) and (Path(head).expanduser() / CONFIG_FILE).is_file()
    return adapter_folder(store, head) if is_stored or is_folder else None


def bases_of_adapter(folder: Path) -> list[str]:
    """What an adapter says of its base, best first: its lineage's name, the path it was given, its configuration.

    Raises ``FormatError`` when nothing names one.
    """
    lineage = read_lineage(folder)
    words: list[object] = []
    if lineage is not None:
        words += [parent.name for parent in lineage.parents if read_kind(parent.kind) in ("bases", "models")]
        words.append(lineage.options.get("base"))
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot be read: {error}", file=path) from error
    words.append(config.get("base_model_name_or_path") if isinstance(config, dict) else None)
    named = [word for word in words if isinstance(word, str) and word]
    if not named:
        raise FormatError("does not say which base it belongs to", file=path, hint=f"name it: BASE+{folder}")
    return named


def base_here(store: Store, folder: Path) -> str:
    """The first of an adapter's bases that is here; whether it is the right one, its fingerprint tells."""
    words = bases_of_adapter(folder)
    for word in words:
        try:
            resolve_base(store, word)
        except (NotFound, UsageError):  # a hub name, or a path that was true elsewhere: ask the next
            continue
        return word
    raise NotFound(
        f"adapter {folder.name!r} was trained on {words[0]!r}, which is not here",
        hint=f"nomoat pull {words[0]}, or name the base yourself: BASE+{folder.name}",
    )
