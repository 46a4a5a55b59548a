"""A stack is a model name: ``smollm2-135m+chat:0.8+sql`` is a base wearing two adapters.

Grammar: ``HEAD[:weight][+ADAPTER[:weight]]...``. The head is a base (a name in the store or a path), or an
adapter, which then brings the base its lineage names, and the stack that it learned on top of, if any.
An adapter is a name in the store or the path of a PEFT folder; its weight is any finite number, and 1 when left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from nomoat.core.bases import looks_like_path, resolve_base
from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store, read_lineage
from nomoat.engine.adapter_folders import adapter_folder, base_here, head_adapter
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base, load_base
from nomoat.model.template import ChatTemplate, template_from_folder

CACHE_FOLDER = "cache"  # what is slow to work out from a base, such as merges of a tokenizer; safe to delete
Worn = tuple[tuple[Adapter, float], ...]  # a stack of adapters that are open, with their weights
_FORM = "write BASE+ADAPTER:WEIGHT+ADAPTER, for example smollm2-135m+chat:0.8+sql"


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One adapter of a stack by name or path, and its weight."""

    adapter: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelName:
    """A parsed model name. ``head_weight`` is None unless one was written: only an adapter may have one."""

    head: str
    head_weight: float | None
    adapters: tuple[Part, ...]


def parse_name(text: str) -> ModelName:
    """Read ``smollm2-135m+chat:0.8+sql``. Raises ``UsageError`` that names the wrong part."""
    head, *rest = [part.strip() for part in text.split("+")]
    if not head:
        raise UsageError(f"{text!r} names no model", hint=_FORM)
    name, weight = _split_weight(head, text)
    return ModelName(name, weight, _adapters(rest, text))


def parse_adapters(text: str) -> tuple[Part, ...]:
    """Read ``chat:0.8+sql``: adapters without a base. An empty text is none."""
    return _adapters([part.strip() for part in text.split("+")], text) if text.strip() else ()


def _adapters(parts: list[str], text: str) -> tuple[Part, ...]:
    worn: list[Part] = []
    for part in parts:
        name, weight = _split_weight(part, text)
        if not name:
            raise UsageError(f"{text!r} has a '+' with no adapter after it", hint=_FORM)
        if any(other.adapter == name for other in worn):
            raise UsageError(f"{text!r} names adapter {name!r} twice", hint=f"add the weights: {name}:2")
        worn.append(Part(name, 1.0 if weight is None else weight))
    return tuple(worn)


def _split_weight(part: str, text: str) -> tuple[str, float | None]:
    """``("chat", 0.8)`` of ``chat:0.8``; a colon inside a path (``C:\\sql``) is part of the name."""
    name, colon, tail = part.rpartition(":")
    if not colon or looks_like_path(tail):
        return part, None
    try:
        weight = float(tail)
    except ValueError:
        raise UsageError(f"{text!r}: the weight {tail!r} of {name!r} is not a number", hint=_FORM) from None
    if not math.isfinite(weight):
        raise UsageError(f"{text!r}: the weight of {name!r} cannot be {tail}", hint=_FORM)
    return name, weight


def open_stack(store: Store, spec: str) -> tuple[Base, Worn]:
    """Open the base and the adapters that a model name means.

    Raises ``UsageError`` for a bad name, ``NotFound`` with near matches, ``AdapterMismatch`` for a wrong
    base.
    """
    return open_stacks(store, [spec])[0]


def open_stacks(store: Store, specs: Sequence[str]) -> list[tuple[Base, Worn]]:
    """Open what several model names mean, a base that several stand on only once. Raises as ``open_stack``."""
    return open_named(store, [whole_name(store, spec) for spec in specs])


def open_named(store: Store, names: Sequence[ModelName]) -> list[tuple[Base, Worn]]:
    """Open what ``whole_name`` or ``plain_name`` found, a base once. Raises as ``open_stack``."""
    bases: dict[Path, Base] = {}
    opened = []
    for name in names:
        path = resolve_base(store, name.head)
        base = bases[path] = bases[path] if path in bases else open_base(store, name.head)
        worn = open_adapters(store, base, name.adapters)
        speaking = with_their_template(store, base, name.adapters) if base.template.kind == "default" else base
        opened.append((speaking, worn))
    return opened


def plain_name(store: Store, spec: str) -> ModelName:
    """A name whose head is the word for its base: a head that is an adapter stands first among ``adapters`` then.

    Raises ``UsageError``, and ``NotFound`` where the base is not here.
    """
    name = parse_name(spec) if not is_path(spec) else ModelName(spec, None, ())
    folder = head_adapter(store, name.head)
    if folder is None:
        _check_base(store, name.head)
        if name.head_weight is not None:
            raise UsageError(f"{name.head!r} is a base and takes no weight", hint=_FORM)
        return name
    own = Part(name.head, 1.0 if name.head_weight is None else name.head_weight)
    if any(worn.adapter == own.adapter for worn in name.adapters):
        raise UsageError(f"{spec!r} names adapter {own.adapter!r} twice", hint=f"add the weights: {own.adapter}:2")
    return ModelName(base_here(store, folder), None, (own, *name.adapters))


def _check_base(store: Store, head: str) -> None:
    """Raise ``NotFound`` unless there is such a base; the word may have been meant for an adapter."""
    try:
        resolve_base(store, head)
    except NotFound as error:
        meant = store.meant(head, "adapters")
        if looks_like_path(head) or not meant or store.meant(head, "bases"):
            raise
        raise NotFound(f"no base or adapter named {head!r} in {store.home}{meant}", hint="nomoat ls") from error


def whole_name(store: Store, spec: str) -> ModelName:
    """As ``plain_name``, and an adapter at the head also brings the stack that it learned on top of.

    Raises ``UsageError``, and ``NotFound`` where that is not here any more.
    """
    name = plain_name(store, spec)
    folder = head_adapter(store, spec if is_path(spec) else parse_name(spec).head)
    named = {part.adapter for part in name.adapters}
    under = parts_under(store, folder) if folder is not None else ()
    brought = tuple(part for part in under if part.adapter not in named)
    return ModelName(name.head, None, (*brought, *name.adapters))


def parts_under(store: Store, folder: Path) -> tuple[Part, ...]:
    """What an adapter learned on top of, by its lineage; nothing for most. Raises ``NotFound`` where it is not here."""
    lineage = read_lineage(folder)
    on = lineage.options.get("on") if lineage is not None else None
    if not isinstance(on, str) or not on:
        return ()
    name = parse_name(on)
    parts = name.adapters if head_adapter(store, name.head) is None else plain_name(store, on).adapters
    for part in parts:
        try:
            adapter_folder(store, part.adapter)
        except NotFound as error:
            raise NotFound(
                f"{folder.name!r} learned on top of {on}, and {part.adapter!r} is not here",
                hint=f"BASE+{folder.name} wears it alone, which is not what it learned",
            ) from error
    return parts


def missing_under(store: Store, spec: str) -> str:
    """What to warn of where an adapter learned on top of others that ``spec`` does not wear; empty where all is well.

    Raises as ``whole_name``.
    """
    name = whole_name(store, spec)
    worn = {part.adapter for part in name.adapters}
    for part in name.adapters:
        try:
            under = parts_under(store, adapter_folder(store, part.adapter))
        except NotFound as error:
            return error.message
        absent = tuple(one for one in under if one.adapter not in worn)
        if absent:
            whole = spelled(ModelName(name.head, None, (*absent, *name.adapters)))
            names = ", ".join(one.adapter for one in absent)
            return f"{part.adapter} learned on top of {names}, not worn here; what it learned to be is {whole}"
    return ""


def spelled(name: ModelName) -> str:
    """``base+chat:0.8+sql``."""
    words = (part.adapter + (f":{part.weight:g}" if part.weight != 1.0 else "") for part in name.adapters)
    return "+".join([name.head, *words])


def open_base(store: Store, word: str) -> Base:
    """Open the base that a name or a path means."""
    path = resolve_base(store, word)
    own = path.name if path.is_dir() else path.stem
    return load_base(path, name=own if looks_like_path(word) else word, cache=store.home / CACHE_FOLDER)


def with_their_template(store: Store, base: Base, adapters: tuple[Part, ...]) -> Base:
    """A base without a chat template speaks the one that its adapters were trained with."""
    found: dict[str, str] = {}
    for worn in adapters:
        template = template_from_folder(adapter_folder(store, worn.adapter), base.tokenizer)
        if template.kind == "base":
            found.setdefault(template.source, worn.adapter)
    if len(found) > 1:
        names = " and ".join(repr(name) for name in found.values())
        raise UsageError(f"{names} were trained with different chat templates", hint="stack adapters of one template")
    for source in found:
        template = ChatTemplate(source, kind="adapter", variables=base.template.variables)
        return dataclasses.replace(base, template=template)
    return base


def is_path(spec: str) -> bool:
    """Whether the whole is a path that exists: one may hold '+' and ':' itself."""
    return looks_like_path(spec) and Path(spec).expanduser().exists()


def open_adapters(store: Store, base: Base, adapters: tuple[Part, ...]) -> Worn:
    """Load adapters for a base that is open already."""
    return tuple((base.load_adapter(adapter_folder(store, worn.adapter)), worn.weight) for worn in adapters)


def worn_folders(store: Store, spec: str) -> tuple[Path, ...]:
    """The PEFT folders of the adapters that a model name means, in order. Raises as ``open_stack`` does."""
    return folders_of(store, whole_name(store, spec))


def folders_of(store: Store, name: ModelName) -> tuple[Path, ...]:
    """The PEFT folders of a name's adapters. Raises ``NotFound``."""
    return tuple(adapter_folder(store, part.adapter) for part in name.adapters)
