"""What an HTTP client may wear: the stack that a model name means, and the adapters on offer.

The wardrobe keeps the adapters. Here is what clients see of it: those that fit the base, by name and by number, without
those that a client unloaded; and the folders from which a client may load. What is not on offer is a 404.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from nomoat.core.errors import NomoatError, NotFound, UsageError
from nomoat.core.store import Store
from nomoat.engine.adapter_folders import CONFIG_FILE, adapter_folder, bases_of_adapter
from nomoat.engine.names import Part, Worn, parse_adapters, parse_name, parts_under, with_their_template
from nomoat.engine.wardrobe import Wardrobe
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base
from nomoat.serve.errors import RequestError
from nomoat.serve.options import ServeOptions


@dataclasses.dataclass(frozen=True, slots=True)
class Outfit:
    """What one request wears: the base as it speaks with these adapters, the adapters, and the whole name."""

    base: Base
    worn: Worn
    name: str


class Shelf:
    """Adapters by name. Safe to use from several threads. ``on_unload`` hears of each that leaves the memory."""

    def __init__(
        self,
        store: Store,
        base: Base,
        options: ServeOptions,
        *,
        default: tuple[Part, ...] = (),
        on_unload: Callable[[Adapter], None] = lambda adapter: None,
    ) -> None:
        self.base, self._store = base, store
        self._roots = [Path(folder).expanduser().resolve() for folder in options.adapter_folders]
        self._wardrobe = Wardrobe(base, store, budget_bytes=options.adapter_mb << 20, on_unload=on_unload)
        self._lock = threading.Lock()
        self._hidden: set[str] = set()
        self._default = tuple(Part(self._take_in(part.adapter), part.weight) for part in default)
        self._wardrobe.wear([Part(self._take_in(word)) for word in options.adapters])
        for text in options.stacks:
            self._name_stack(text)

    def _take_in(self, word: str) -> str:
        """The name under which the owner's own word for an adapter (a name or a path) is on offer."""
        folder = adapter_folder(self._store, word)
        if folder.parent != self._store.home / "adapters":
            folder = folder.resolve()
            self._wardrobe.register(folder.name, folder)
        return folder.name

    def _name_stack(self, text: str) -> None:
        """Offer ``polite=chat:0.8+sql``; opening its adapters now tells whether they fit."""
        name, equals, stack = (word.strip() for word in text.partition("="))
        if not equals or not name:
            raise UsageError(f"--stacks: {text!r} is not NAME=STACK", hint="--stacks polite=chat:0.8+sql")
        if name == self.base.name:
            raise UsageError(f"--stacks: {name!r} is the name of the base", hint="choose another")
        parts = parse_adapters(stack)
        self._wardrobe.name_stack(name, parts)
        self._wardrobe.wear(parts)

    def outfit(self, model: str | None, scales: Iterable[tuple[int, float]] = ()) -> Outfit:
        """What a model name means; none, or an empty one, is what the server was started with.

        ``scales``: numbers of ``names()`` with weights, worn besides. Raises ``RequestError`` (404) for what is not
        here.
        """
        parts = self._wardrobe.take_apart(self._parts(model.removesuffix(":latest") if model else ""))
        names = self.names() if scales else []
        for number, weight in scales:
            if number >= len(names):
                raise RequestError(f"lora: there is no adapter number {number}", param="lora", status=404)
            parts = (*(part for part in parts if part.adapter != names[number]), Part(names[number], weight))
        folders = tuple(Part(str(self.folder(part.adapter)), part.weight) for part in parts)
        worn, base = self._wardrobe.wear(parts), self.base
        if base.template.kind == "default" and parts:
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
        with self._lock:
            self._default = tuple(Part(names[number], weight) for number, weight in scales.items() if weight != 0)

    @property
    def stacks(self) -> dict[str, tuple[Part, ...]]:
        """The stacks that have names."""
        return self._wardrobe.stacks()

    def names(self) -> list[str]:
        """The adapters on offer, sorted. Their places in this list are llama-server's numbers."""
        known = (one for one in self._wardrobe.known() if one.name not in self._hidden)
        return [one.name for one in known if one.registered or self._fits(one.folder)]

    def folder(self, name: str) -> Path:
        """Where an adapter on offer lies. Raises ``RequestError`` (404)."""
        if name not in self._hidden:
            try:
                return self._wardrobe.folder(name)
            except (NotFound, UsageError):  # said below in the words of the API
                pass
        raise self._unknown(name)

    def load(self, name: str, path: str = "") -> None:
        """Put an adapter on offer and open it. ``path`` must lie in one of the folders the owner named.

        Raises ``RequestError``, ``NotFound``, ``AdapterMismatch`` and what reading can raise.
        """
        if name == self.base.name:
            raise RequestError(f"{name!r} is the name of a model here already", param="lora_name")
        self._wardrobe.register(name, self._named_folder(path or name))
        with self._lock:
            self._hidden.discard(name)

    def unload(self, name: str) -> None:
        """Take an adapter from the offer; requests that wear it end as they began. Raises ``RequestError`` (404)."""
        with self._lock:
            if name not in self.names():
                raise self._unknown(name)
            self._hidden.add(name)
            self._default = tuple(part for part in self._default if part.adapter != name)
            self._wardrobe.unload(name)

    def _parts(self, model: str) -> tuple[Part, ...]:
        if not model:
            return self._default
        if model == self.base.name:
            return ()
        if model.startswith(f"{self.base.name}+"):  # the base's own name may hold anything: it is not parsed
            return parse_name(f"base{model.removeprefix(self.base.name)}").adapters
        name = parse_name(model)  # an adapter alone, or several: they bring their base
        weight = 1.0 if name.head_weight is None else name.head_weight
        if any(part.adapter == name.head for part in name.adapters):
            raise UsageError(f"{model!r} names adapter {name.head!r} twice", hint=f"add the weights: {name.head}:2")
        named = {part.adapter for part in name.adapters}
        brought = [part for part in self._under(name.head) if part.adapter not in named]
        return (*brought, Part(name.head, weight), *name.adapters)

    def _under(self, name: str) -> tuple[Part, ...]:
        """What an adapter alone brings: the stack that it learned on top of. Raises ``RequestError`` (404)."""
        if name in self.stacks:
            return ()
        parts = parts_under(self._store, self.folder(name))
        return tuple(Part(self._name_of(part.adapter, name), part.weight) for part in parts)

    def _name_of(self, word: str, above: str) -> str:
        """The name here of an adapter that ``above`` learned on top of and knows by a name or a path."""
        folder = adapter_folder(self._store, word).resolve()
        for one in self._wardrobe.known():
            if one.folder.resolve() == folder:
                return one.name
        raise RequestError(
            f"{above!r} learned on top of {folder.name!r}, which is not on offer here",
            status=404,
            param="model",
            code="model_not_found",
            hint=f"{self.base.name}+{above} wears it alone, which is not what it learned",
        )

    def _fits(self, folder: Path) -> bool:
        """Whether a stored adapter says that it belongs to this base; opening it proves it."""
        try:
            words = bases_of_adapter(folder)
        except NomoatError:  # a folder that is none of ours is not on offer
            return False
        return any(word in (self.base.name, str(self.base.path), f"bases/{self.base.name}") for word in words)

    def _named_folder(self, word: str) -> Path:
        """The folder that a client's word means: a name in the store, or a path that is allowed."""
        if word in self._store.names("adapters"):
            return self._store.path("adapters", word)
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
