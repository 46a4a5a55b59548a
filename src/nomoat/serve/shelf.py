"""The adapters a server offers, and the stack that a model name means.

An adapter is on offer when it is in the store and fits the base, or was put here by name. It is opened when it is
first asked for, kept open while it is among those used last, and opened again when its files have changed. A model
name never opens a path: names are looked up, and what is not on offer is a 404.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from nomoat.core.errors import NomoatError, UsageError
from nomoat.core.store import Store
from nomoat.engine.names import (
    CONFIG_FILE,
    Part,
    Worn,
    adapter_folder,
    bases_of_adapter,
    parse_adapters,
    parse_name,
    with_their_template,
)
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base
from nomoat.serve.errors import RequestError
from nomoat.serve.options import ServeOptions

_WEIGHTS = "adapter_model.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class Outfit:
    """What one request wears: the base as it speaks with these adapters, the adapters, and the whole name."""

    base: Base
    worn: Worn
    name: str


class Shelf:
    """Adapters by name. Safe to use from several threads. ``on_close`` hears of each adapter that is put away."""

    def __init__(
        self,
        store: Store,
        base: Base,
        options: ServeOptions,
        *,
        default: tuple[Part, ...] = (),
        on_close: Callable[[Adapter], None] = lambda _: None,
    ) -> None:
        self.base, self._on_close = base, on_close
        self._store, self._options = store, options
        self._roots = [Path(folder).expanduser().resolve() for folder in options.adapter_folders]
        self._lock = threading.RLock()
        self._placed: dict[str, Path] = {}
        self._hidden: set[str] = set()
        self._open: OrderedDict[str, tuple[Adapter, float]] = OrderedDict()  # with its file's time of change
        self._default = tuple(Part(self._take_in(part.adapter), part.weight) for part in default)
        self.stacks = dict(_named_stack(text) for text in options.stacks)
        for word in options.adapters:
            self._adapter(self._take_in(word))
        for parts in self.stacks.values():
            self._worn(parts)

    def _take_in(self, word: str) -> str:
        """The name under which the owner's own word for an adapter (a name or a path) is on offer."""
        folder = adapter_folder(self._store, word)
        if folder.parent != self._store.home / "adapters":
            self._placed[folder.name] = folder
        return folder.name

    def outfit(self, model: str | None, scales: Iterable[tuple[int, float]] = ()) -> Outfit:
        """What a model name means; none, or an empty one, is what the server was started with.

        ``scales``: numbers of ``names()`` with weights, worn besides. Raises ``RequestError`` (404) for what is not
        here.
        """
        parts = self._parts(model.removesuffix(":latest") if model else "")
        names = self.names() if scales else []
        for number, weight in scales:
            if number >= len(names):
                raise RequestError(f"lora: there is no adapter number {number}", param="lora", status=404)
            parts = (*(part for part in parts if part.adapter != names[number]), Part(names[number], weight))
        with self._lock:
            worn = self._worn(parts)
        base = self.base
        if base.template.kind == "default" and parts:
            folders = tuple(Part(str(self._folder(part.adapter)), part.weight) for part in parts)
            base = with_their_template(self._store, base, folders)
        return Outfit(base, worn, self.spelled(parts))

    def spelled(self, parts: Iterable[Part]) -> str:
        """``base+chat:0.8+sql``."""
        words = [part.adapter + (f":{part.weight:g}" if part.weight != 1 else "") for part in parts]
        return "+".join([self.base.name, *words])

    @property
    def default(self) -> tuple[Part, ...]:
        """What a request wears that names no model."""
        return self._default

    def set_default(self, scales: dict[int, float]) -> None:
        """Let requests that name no model wear these adapters, by number, with these weights."""
        names = self.names()
        if any(number >= len(names) for number in scales):
            raise RequestError(f"there are {len(names)} adapters, numbered from 0", status=404)
        self._default = tuple(Part(names[number], weight) for number, weight in scales.items() if weight != 0)

    def names(self) -> list[str]:
        """The adapters on offer, sorted. Their places in this list are llama-server's numbers."""
        stored = (name for name in self._store.names("adapters") if name not in self._hidden and self._fits(name))
        return sorted({*stored, *self._placed})

    def is_open(self, name: str) -> bool:
        return name in self._open

    def folder(self, name: str) -> Path:
        """Where an adapter on offer lies."""
        return self._folder(name)

    def load(self, name: str, path: str = "") -> None:
        """Put an adapter on offer and open it. ``path`` must lie in one of the folders the owner named.

        Raises ``RequestError``, ``NotFound``, ``AdapterMismatch`` and what reading can raise.
        """
        self._store.path("adapters", name)  # a name that could be a path is refused here
        if name == self.base.name or name in self.stacks:
            raise RequestError(f"{name!r} is the name of a model here already", param="lora_name")
        folder = self._named_folder(path or name)
        with self._lock:
            before = self._placed.get(name)
            self._placed[name] = folder
            self._hidden.discard(name)
            self._close(name)
            try:
                self._adapter(name)
            except Exception:
                self._placed.pop(name)
                if before is not None:
                    self._placed[name] = before
                raise

    def unload(self, name: str) -> None:
        """Take an adapter from the offer; requests that wear it end as they began. Raises ``RequestError`` (404)."""
        with self._lock:
            if name not in self.names():
                raise self._unknown(name)
            self._placed.pop(name, None)
            self._close(name)
            self._hidden.add(name)
            self._default = tuple(part for part in self._default if part.adapter != name)

    def _parts(self, model: str) -> tuple[Part, ...]:
        if not model:
            return self._default
        if model in self.stacks:
            return self.stacks[model]
        if model == self.base.name:
            return ()
        if model.startswith(f"{self.base.name}+"):  # the base's own name may hold anything: it is not parsed
            return parse_name(f"base{model.removeprefix(self.base.name)}").adapters
        name = parse_name(model)  # an adapter alone, or several: they bring their base
        weight = 1.0 if name.head_weight is None else name.head_weight
        if any(part.adapter == name.head for part in name.adapters):
            raise UsageError(f"{model!r} names adapter {name.head!r} twice", hint=f"add the weights: {name.head}:2")
        return (Part(name.head, weight), *name.adapters)

    def _worn(self, parts: Iterable[Part]) -> Worn:
        return tuple((self._adapter(part.adapter), part.weight) for part in parts)

    def _adapter(self, name: str) -> Adapter:
        with self._lock:
            folder = self._folder(name)
            changed = (folder / _WEIGHTS).stat().st_mtime if (folder / _WEIGHTS).is_file() else 0.0
            held = self._open.get(name)
            if held is None or held[1] != changed:
                self._close(name)
                self._open[name] = held = (self.base.load_adapter(folder, name=name), changed)
            self._open.move_to_end(name)
            while len(self._open) > self._options.max_adapters:
                self._close(next(iter(self._open)))
            return held[0]

    def _close(self, name: str) -> None:
        held = self._open.pop(name, None)
        if held is not None:
            self._on_close(held[0])

    def _folder(self, name: str) -> Path:
        if name in self._placed:
            return self._placed[name]
        if name in self._hidden or not _is_plain(name) or name not in self._store.names("adapters"):
            raise self._unknown(name)
        return self._store.path("adapters", name)

    def _fits(self, name: str) -> bool:
        """Whether a stored adapter says that it belongs to this base; opening it proves it."""
        try:
            words = bases_of_adapter(self._store.path("adapters", name))
        except NomoatError:  # a folder that is none of ours is not on offer
            return False
        return any(word in (self.base.name, str(self.base.path), f"bases/{self.base.name}") for word in words)

    def _named_folder(self, word: str) -> Path:
        """The folder that a client's word means: a name in the store, or a path that is allowed."""
        if _is_plain(word) and word in self._store.names("adapters"):
            return self._store.path("adapters", word)
        return self._allowed(word)

    def _allowed(self, word: str) -> Path:
        folder = Path(word).expanduser().resolve()
        if not any(folder.is_relative_to(root) for root in self._roots):
            raise RequestError(
                f"no adapter {word!r} in the store, and its folder is not one that clients may load from",
                status=403,
                param="lora_path",
                code="path_not_allowed",
                hint="nomoat serve --adapter-folders DIR",
            )
        if not (folder / CONFIG_FILE).is_file():
            raise RequestError(f"{word!r} holds no {CONFIG_FILE}", status=404, param="lora_path")
        return folder

    def _unknown(self, name: str) -> RequestError:
        offered = ", ".join([self.base.name, *self.stacks, *self.names()][:20])
        return RequestError(
            f"the model {name[:200]!r} does not exist here",
            status=404,
            param="model",
            code="model_not_found",
            hint=offered,
        )


def _named_stack(text: str) -> tuple[str, tuple[Part, ...]]:
    name, equals, stack = text.partition("=")
    if not equals or not name.strip() or not _is_plain(name.strip()):
        raise UsageError(f"--stacks: {text!r} is not NAME=STACK", hint="--stacks polite=chat:0.8+sql")
    return name.strip(), parse_adapters(stack)


def _is_plain(word: str) -> bool:
    """Whether a word can only be a name."""
    return bool(word) and not set(word) & set("/\\:+") and not word.startswith((".", "~"))
