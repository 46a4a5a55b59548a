"""Adapters on demand: hundreds are known by name, the ones in use are in memory, the others a few milliseconds away."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.engine.adapter_folders import CONFIG_FILE
from nomoat.engine.names import Part, Worn
from nomoat.formats.peft import WEIGHTS
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base

_Version = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """An adapter that can be worn by name; whether it is in memory, and whether it was registered or found stored."""

    name: str
    folder: Path
    loaded: bool
    registered: bool


@dataclasses.dataclass(slots=True)
class _Resident:
    adapter: Adapter
    folder: Path
    version: _Version
    size_bytes: int


class Wardrobe:
    """The adapters of one base by name: those in the store's ``adapters``, and those registered from elsewhere.

    A name never is a path, so names may come from strangers. At most ``budget_bytes`` of adapters stay in memory, the
    most recently worn; ``on_unload`` hears of each that goes. Files that changed on disk are read again. Every method
    may be called from any thread.
    """

    def __init__(
        self,
        base: Base,
        store: Store,
        *,
        budget_bytes: int = 1 << 30,
        on_unload: Callable[[Adapter], None] = lambda adapter: None,
    ) -> None:
        self._base, self._store = base, store
        self._budget_bytes, self._on_unload = budget_bytes, on_unload
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._stacks: dict[str, tuple[Part, ...]] = {}
        self._resident: OrderedDict[str, _Resident] = OrderedDict()  # least recently worn first
        self._loading: dict[str, Future[Adapter]] = {}

    @property
    def resident_bytes(self) -> int:
        with self._lock:
            return sum(one.size_bytes for one in self._resident.values())

    def known(self) -> list[Known]:
        """All adapters that can be worn, by name."""
        stored = dict(self._all_stored())
        with self._lock:
            folders = sorted((stored | self._folders).items())
            return [Known(name, folder, name in self._resident, name in self._folders) for name, folder in folders]

    def folder(self, name: str) -> Path:
        """Where the adapter of that name lies. Raises ``NotFound``, and ``UsageError`` for what cannot be a name."""
        with self._lock:
            registered = self._folders.get(name)
        return registered if registered is not None else self._stored(name)

    def register(self, name: str, folder: Path) -> None:
        """Make a PEFT folder wearable as ``name``, loading it now. Raises ``UsageError`` if the name is another's.

        Raises ``NotFound``, ``AdapterMismatch`` and ``FormatError`` as loading does, and then nothing has changed.
        """
        self._store.path("adapters", name)  # refuses what cannot be a name
        if not (folder / CONFIG_FILE).is_file():
            raise NotFound(f"{folder} is not an adapter folder: it has no {CONFIG_FILE}")
        with self._lock:
            taken = self._folders.get(name) or (self._stored(name) if name in self._store.names("adapters") else folder)
            if taken.resolve() != folder.resolve() or name in self._stacks:
                raise UsageError(f"the name {name!r} is taken", hint="choose another, or unload the other first")
        self._load(name, folder)
        with self._lock:
            self._folders[name] = folder

    def unload(self, name: str) -> None:
        """Take an adapter out of memory; a registered one is unknown afterwards, a stored one is read when it is worn.

        Raises ``NotFound`` for a name that is neither.
        """
        self.folder(name)
        with self._lock:
            self._folders.pop(name, None)
            gone = self._resident.pop(name, None)
        if gone is not None:
            self._on_unload(gone.adapter)

    def name_stack(self, name: str, parts: Sequence[Part]) -> None:
        """Let ``name`` mean several adapters with their weights. Raises ``UsageError`` if the name is taken."""
        self._store.path("adapters", name)
        for part in parts:
            self.folder(part.adapter)
        with self._lock:
            if name in self._folders or name in self._store.names("adapters"):
                raise UsageError(f"the name {name!r} is an adapter's", hint="choose another")
            self._stacks[name] = tuple(parts)

    def drop_stack(self, name: str) -> None:
        """Forget a named stack. Raises ``NotFound``."""
        with self._lock:
            if self._stacks.pop(name, None) is None:
                raise NotFound(f"no stack is named {name!r}")

    def stacks(self) -> dict[str, tuple[Part, ...]]:
        """The named stacks."""
        with self._lock:
            return dict(self._stacks)

    def take_apart(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Adapters only: names of stacks become what they mean, and an adapter that comes twice has both weights."""
        weights: dict[str, float] = {}
        for part in parts:
            with self._lock:
                inner = self._stacks.get(part.adapter)
            for one in inner if inner is not None else (Part(part.adapter),):
                weights[one.adapter] = weights.get(one.adapter, 0.0) + one.weight * part.weight
        return tuple(Part(name, weight) for name, weight in weights.items())

    def wear(self, parts: Sequence[Part]) -> Worn:
        """The adapters of a stack, read from disk where they are not in memory; names of stacks are taken apart.

        Raises ``NotFound`` for an unknown name, and what loading raises.
        """
        return tuple((self._adapter(part.adapter), part.weight) for part in self.take_apart(parts))

    def _all_stored(self) -> Iterator[tuple[str, Path]]:
        for name in self._store.names("adapters"):
            with contextlib.suppress(UsageError):  # a folder somebody put there, whose name cannot be asked for
                yield name, self._store.path("adapters", name)

    def _stored(self, name: str) -> Path:
        return self._store.find("adapters", name)

    def _adapter(self, name: str) -> Adapter:
        folder = self.folder(name)
        with self._lock:
            held = self._held(name, folder)
        return held if held is not None else self._load(name, folder)

    def _held(self, name: str, folder: Path) -> Adapter | None:
        """The adapter in memory, if it is what the folder holds now."""
        held = self._resident.get(name)
        if held is None or held.folder != folder or held.version != _version(folder):
            return None
        self._resident.move_to_end(name)
        return held.adapter

    def _load(self, name: str, folder: Path) -> Adapter:
        """Read an adapter once, however many ask for it at the same time."""
        with self._lock:
            held, running = self._held(name, folder), self._loading.get(name)
            if held is not None:
                return held
            if running is None:
                mine = self._loading[name] = Future[Adapter]()
        if running is not None:
            return running.result()
        try:
            version = _version(folder)
            adapter = self._base.load_adapter(folder, name=name)
        except BaseException as error:  # those who wait must not wait for ever
            mine.set_exception(error)
            raise
        else:
            gone = self._keep(name, _Resident(adapter, folder, version, 4 * adapter.n_parameters))
            mine.set_result(adapter)
        finally:
            with self._lock:
                del self._loading[name]
        for one in gone:
            self._on_unload(one)
        return adapter

    def _keep(self, name: str, resident: _Resident) -> list[Adapter]:
        """Hold an adapter in memory; the ones that had to go for it."""
        with self._lock:
            replaced = self._resident.pop(name, None)
            gone = [replaced.adapter] if replaced is not None else []
            self._resident[name] = resident
            size = sum(one.size_bytes for one in self._resident.values())
            while len(self._resident) > 1 and size > self._budget_bytes:
                _, oldest = self._resident.popitem(last=False)
                size -= oldest.size_bytes
                gone.append(oldest.adapter)
            return gone


def _version(folder: Path) -> _Version:
    """What changes when an adapter is written anew. Raises ``NotFound``."""
    try:
        status = (folder / WEIGHTS).stat()
    except OSError as error:
        raise NotFound(f"{folder} is not an adapter folder: it has no {WEIGHTS}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino
