"""``export``: a base and its stack to files for others, checked before they are called done. A generator of records."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from nomoat.core.amounts import counted
from nomoat.core.errors import UsageError
from nomoat.core.files import atomic_folder, sha256_file
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Kind, Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.engine.names import Worn, open_stack, worn_folders
from nomoat.engine.reward import refuse_reward_head
from nomoat.export.checked_rows import CheckedRows, rows_to_check
from nomoat.export.importance import measure_importance
from nomoat.export.options import ExportOptions
from nomoat.export.parity import Receipt, check_parity
from nomoat.export.presets import PRESETS
from nomoat.export.write import WRITERS, Export, beside
from nomoat.formats.blocks import TYPES
from nomoat.formats.peft import WEIGHTS
from nomoat.formats.weights import Floats
from nomoat.model.load import Base
from nomoat.train.artefact import TEMPLATE_FILE
from nomoat.train.parents import base_origin, derived_licence

_KINDS: dict[str, Kind] = {"peft": "adapters"}


def export(options: ExportOptions, store: Store) -> Generator[Record]:
    """Write, check, and only then keep; ends with ``Done("export")``.

    Raises ``UsageError`` for what a target cannot hold, ``ParityMismatch`` where the copy would not say what was
    trained; then nothing is left on disk.
    """
    target = _target(options, store)
    base, worn = open_stack(store, options.model)
    refuse_reward_head(worn, "an export")
    if not worn and options.to in ("gguf-lora", "peft"):
        raise UsageError(f"{options.model!r} is a base without an adapter", hint="name one: BASE+ADAPTER")
    rows = rows_to_check(store, base, worn, options.rows, options.conversations)
    yield Note(f"checking with {counted(len(rows.encoded), 'row')} of {rows.source}")
    if options.to == "gguf" and worn and base.path.is_file():
        yield Note("the stack goes into the base's blocks, which are rounded again; --to gguf-lora rounds nothing")
    importance = yield from _importance(options, base, worn, rows)
    what = Export(base, worn, options, options.name or target.name, importance)
    with _writing(options, store, target) as folder:
        exported = yield from WRITERS[options.to](what, folder)
        if options.to == "gguf-lora" and base.template.kind != "base":
            yield Note(f"{base.name} has no chat template: llama-server --chat-template-file {target / TEMPLATE_FILE}")
        receipt = yield from check_parity((base, worn), exported, rows, options)
        lineage = _lineage(what, receipt, store)
        write_lineage(folder, lineage)
    yield Saved(target, options.to)
    facts = {"to": options.to, "type": exported.type, "licence": lineage.licence}
    yield Done("export", target, {**facts, **receipt.as_json()})


def _target(options: ExportOptions, store: Store) -> Path:
    """Where it will stand. Raises ``UsageError`` where something stands there and ``replace`` is not asked for."""
    target = Path(options.out).expanduser().absolute() if options.out else store.path(_kind(options), options.name)
    if target.exists() and not options.replace:
        raise UsageError(f"{target} exists already", hint="choose another place, or pass --replace to put it aside")
    return target


def _kind(options: ExportOptions) -> Kind:
    return _KINDS.get(options.to, "models")


def _writing(options: ExportOptions, store: Store, target: Path) -> AbstractContextManager[Path]:
    if options.out:
        return atomic_folder(target)
    return store.writing(_kind(options), options.name, replace=options.replace)


def _importance(
    options: ExportOptions, base: Base, worn: Worn, rows: CheckedRows
) -> Generator[Record, None, Mapping[str, Floats]]:
    """What each column counts; nothing for types that need no such care."""
    if options.to == "ollama" and beside(base, worn, options):
        return {}
    preset = PRESETS.get(options.used_type)
    coarse = preset is not None and TYPES[preset.type].type_size < TYPES[preset.type].block_size
    if not (options.importance and coarse and options.to in ("gguf", "ollama")):
        return {}
    return (yield from measure_importance(base, worn, rows.encoded))


def _lineage(what: Export, receipt: Receipt, store: Store) -> Lineage:
    """Parents with their hashes, all licences together, the options and the receipt."""
    origin = base_origin(store, what.base.name, what.base)
    parents, licences = [origin.parent], [origin.licence]
    for folder in worn_folders(store, what.options.model):
        theirs = read_lineage(folder)
        licences.append(theirs.licence if theirs is not None else "")
        parents.append(Parent("adapter", folder.name, sha256_file(folder / WEIGHTS)))
    return Lineage(
        kind=_kind(what.options),
        name=what.title,
        licence=derived_licence(*licences),
        parents=tuple(parents),
        options={key: value for key, value in dataclasses.asdict(what.options).items() if key != "out"},
        metrics={"kl": receipt.damage.kl, "greedy_agreement": receipt.damage.agreement},
        details={"receipt": receipt.as_json()},
    )
