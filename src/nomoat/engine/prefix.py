"""Which tokens the pages of a cache hold: a tree of pages, so that what begins alike is read once.

Keys and values of a token depend on the tokens before it and on what was worn, so every ``wear`` has a tree of its
own, and a page belongs to exactly the tokens on its way from the root. Plain numbers only.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from nomoat.model.cache import PAGE


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A page and the tokens in it, ``PAGE`` of them, or fewer where a text ended. The root has none."""

    tokens: tuple[int, ...]
    page: int
    parent: Node | None
    wear: Hashable
    children: dict[tuple[int, ...], Node] = dataclasses.field(default_factory=dict)
    users: int = 0


class PrefixTree:
    """Pages by the tokens they hold, the least recently used to be given up first."""

    def __init__(self) -> None:
        self._roots: dict[Hashable, Node] = {}
        self._by_age: OrderedDict[int, Node] = (
            OrderedDict()
        )  # by page, oldest first; a parent is younger than its child

    def __len__(self) -> int:
        return len(self._by_age)

    def match(self, wear: Hashable, tokens: Sequence[int]) -> tuple[list[Node], Node | None, int]:
        """The pages that ``tokens`` begin with, then the page that begins with the rest of them, and how far."""
        node, found = self._roots.get(wear), list[Node]()
        while node is not None:
            at = len(found) * PAGE
            child = node.children.get(tuple(tokens[at : at + PAGE]))
            if child is None or len(child.tokens) < PAGE:
                rest = tokens[at : at + PAGE]
                near = max(node.children.values(), key=lambda one: common(one.tokens, rest), default=None)
                return found, near, common(near.tokens, rest) if near is not None else 0
            found.append(child)
            node = child
        return [], None, 0

    def add(self, wear: Hashable, parent: Node | None, tokens: tuple[int, ...], page: int) -> Node:
        """Keep a page under its parent (None is the root), which has none of these tokens yet."""
        above = parent if parent is not None else self._roots.setdefault(wear, Node((), 0, None, wear))
        node = Node(tokens, page, above, wear)
        above.children[tokens] = node
        self._by_age[page] = node
        self.touch(node)
        return node

    def child(self, wear: Hashable, parent: Node | None, tokens: tuple[int, ...]) -> Node | None:
        """The page of exactly these tokens under a parent."""
        above = parent if parent is not None else self._roots.get(wear)
        return above.children.get(tokens) if above is not None else None

    def touch(self, node: Node) -> None:
        """The page and those before it were used now."""
        step: Node | None = node
        while step is not None and step.parent is not None:
            self._by_age.move_to_end(step.page)
            step = step.parent

    def evict(self) -> int | None:
        """Give up the oldest page that nobody reads and nothing hangs on; None if there is none."""
        for page, node in self._by_age.items():
            if not node.users and not node.children:
                self._cut(node)
                return page
        return None

    def drop(self, told: Callable[[Hashable], bool]) -> list[int]:
        """Give up all that was read under a wear that is ``told`` and is not in use; returns the pages."""
        freed: list[int] = []
        own = [node for node in self._by_age.values() if told(node.wear)]
        for node in own:  # children come first: they are older
            if not node.users and not node.children:
                self._cut(node)
                freed.append(node.page)
        return freed

    def _cut(self, node: Node) -> None:
        assert node.parent is not None
        del self._by_age[node.page]
        del node.parent.children[node.tokens]
        if node.parent.parent is None and not node.parent.children:
            del self._roots[node.wear]


def common(old: Sequence[int], new: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
