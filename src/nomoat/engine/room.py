"""Pages for running requests: taken, shared with what was read before, and given back."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Hashable, Sequence

from nomoat.engine.prefix import Node, PrefixTree
from nomoat.model.cache import PAGE, KVCache

_WORTH_WAITING = 4 * PAGE  # tokens: less than this is read twice rather than waited for


@dataclasses.dataclass(slots=True)
class _Guest:
    """A running request: its pages in order; the first of them are shared ones, known to the tree.

    What stands after its first ``shareable`` tokens is its own.
    """

    wear: Hashable
    tokens: Sequence[int]
    shareable: int
    pages: list[int]
    shared: list[Node]
    cached: int
    reuse: bool


class PagedRoom:
    """The pages of a cache of at most ``max_pages``: who has which, and what may be given up for whom.

    ``reuse`` off keeps nothing after a request and shares nothing between requests.
    """

    def __init__(self, cache: KVCache, *, max_pages: int, reuse: bool = True) -> None:
        self._cache, self._max_pages, self._reuse = cache, max_pages, reuse
        self._free = list(reversed(range(cache.n_pages)))
        self._tree = PrefixTree()
        self._announced: dict[int, tuple[Hashable, Sequence[int], int, bool]] = {}  # until they are done
        self._guests: dict[int, _Guest] = {}

    @property
    def used_bytes(self) -> int:
        """Memory of the pages that hold something."""
        return (self._cache.n_pages - len(self._free)) * self._cache.page_bytes

    @property
    def kept_pages(self) -> int:
        """Pages that the next request may find its beginning in."""
        return len(self._tree)

    def announce(
        self, request: int, wear: Hashable, tokens: Sequence[int], *, shareable: int = sys.maxsize, reuse: bool = True
    ) -> None:
        """Say what a request will hold. ``tokens`` is the caller's list: what it grows by, the room sees.

        Others may find no more than the first ``shareable`` of them; without ``reuse`` it reads all of them itself.
        """
        self._announced[request] = (wear, tokens, shareable, reuse and self._reuse)

    def enter(self, request: int, spare: int) -> int | None:
        """As ``schedule.Room``: at least one known token is left to run."""
        wear, tokens, shareable, reuse = self._announced[request]
        usable = tokens[: min(len(tokens) - 1, shareable)]
        nodes, near, part = self._tree.match(wear, usable) if reuse else ([], None, 0)
        near = near if part else None
        for node in nodes:
            node.users += 1
        if near is not None:
            near.users += 1
        fresh = self._take(_pages_for(len(tokens)) - len(nodes), spare)
        if near is not None:
            near.users -= 1
        if fresh is None:
            for node in nodes:
                node.users -= 1
            return None
        if near is not None:
            self._cache.copy(near.page, fresh[0], part)
            self._tree.touch(near)
        elif nodes:
            self._tree.touch(nodes[-1])
        cached = len(nodes) * PAGE + part
        guest = _Guest(wear, tokens, shareable, [node.page for node in nodes] + fresh, nodes, cached, reuse)
        self._guests[request] = guest
        self._cache.place(request, guest.pages)
        return cached

    def follow(self, request: int, cached: int) -> int | None:
        """As ``schedule.Room``: pages that others have read since are taken over."""
        guest = self._guests[request]
        guest.cached = cached
        if not guest.reuse:
            return cached
        usable, aligned = min(len(guest.tokens) - 1, guest.shareable), guest.cached == len(guest.shared) * PAGE
        while aligned and guest.cached + PAGE <= usable:
            page = tuple(guest.tokens[guest.cached : guest.cached + PAGE])
            if self._tree.child(guest.wear, guest.shared[-1] if guest.shared else None, page) is None:
                break
            self._share(request, guest, page)
            guest.cached += PAGE
        return None if aligned and self._is_ahead(guest) else guest.cached

    def _is_ahead(self, guest: _Guest) -> bool:
        """Whether an older request is reading much of what this one would read next."""
        for other in self._guests.values():
            if other is guest:
                return False
            reading = other.reuse and other.wear == guest.wear and other.cached < len(other.tokens) - 1
            if reading and other.cached >= guest.cached:
                most = min(len(guest.tokens), len(other.tokens), guest.shareable, other.shareable) // PAGE * PAGE
                until = guest.cached + _WORTH_WAITING
                if until <= most and guest.tokens[:until] == other.tokens[:until]:
                    return True
        return False

    def grow(self, request: int, tokens: int) -> bool:
        """As ``schedule.Room``."""
        guest = self._guests[request]
        missing = _pages_for(tokens) - len(guest.pages)
        if missing <= 0:
            return True
        fresh = self._take(missing, 0)
        if fresh is None:
            return False
        guest.pages += fresh
        self._cache.place(request, guest.pages)
        return True

    def keep(self, request: int, cached: int, *, ended: bool = False) -> None:
        """Let others find the first ``cached`` tokens of a request: whole pages, and the last part once it ended."""
        guest = self._guests.get(request)
        if guest is None or not self._reuse:
            return
        guest.cached = cached
        until = min(cached, guest.shareable)
        while (at := len(guest.shared) * PAGE) + PAGE <= until:
            self._share(request, guest, tuple(guest.tokens[at : at + PAGE]))
        if ended and at < until:
            self._share(request, guest, tuple(guest.tokens[at:until]))

    def leave(self, request: int) -> None:
        """As ``schedule.Room``: pages that the tree knows stay with it."""
        guest = self._guests.pop(request)
        self._cache.forget(request)
        for node in guest.shared:
            node.users -= 1
        self._free += guest.pages[len(guest.shared) :]

    def done(self, request: int) -> None:
        """The request will not come back."""
        self._announced.pop(request, None)

    def drop(self, told: Callable[[Hashable], bool]) -> None:
        """Forget what was read under every wear of which ``told`` is true."""
        self._free += self._tree.drop(told)

    def _share(self, request: int, guest: _Guest, tokens: tuple[int, ...]) -> None:
        """Give the guest's next page to the tree; if it has one of the same tokens, take that one instead."""
        parent = guest.shared[-1] if guest.shared else None
        at = len(guest.shared)
        node = self._tree.child(guest.wear, parent, tokens)
        if node is None:
            node = self._tree.add(guest.wear, parent, tokens, guest.pages[at])
        else:
            self._free.append(guest.pages[at])
            guest.pages[at] = node.page
            self._cache.place(request, guest.pages)
        node.users += 1
        guest.shared.append(node)

    def _take(self, n: int, spare: int) -> list[int] | None:
        """``n`` empty pages, leaving ``spare``; old ones are given up for them. None if there are not as many."""
        while len(self._free) < n + spare:
            page = self._tree.evict() if self._cache.n_pages >= self._max_pages else None
            if page is not None:
                self._free.append(page)
            elif self._cache.n_pages < self._max_pages:
                self._more()
            else:
                return None
        return [self._free.pop() for _ in range(n)]

    def _more(self) -> None:
        before = self._cache.n_pages
        self._cache.resize(min(self._max_pages, max(2 * before, 64)))
        self._free = list(reversed(range(before, self._cache.n_pages))) + self._free


def _pages_for(tokens: int) -> int:
    return -(-tokens // PAGE)
