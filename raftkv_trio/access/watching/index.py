"""Finds the watchers of a key: a map of single keys, and an interval tree of ranges.

The tree is a treap: ordered by where ranges begin, a heap by random priorities, so its depth is logarithmic
in whatever order ranges come. Each node knows the greatest end below it (Cormen et al., Introduction to
Algorithms, section 14.3). A look-up passes only nodes above a range that has the key: O(log n) for each hit.
Watchers of the same range share a node.
"""

from collections.abc import Hashable, Iterable
from random import Random
from typing import Generic, TypeVar

from raftkv_trio.kv import TO_THE_LAST

T = TypeVar("T", bound=Hashable)


class _Node(Generic[T]):
    """A range; `end` and `max_end` are None if there is none."""

    __slots__ = ("begin", "end", "left", "max_end", "priority", "right", "watchers")

    def __init__(self, begin: bytes, end: bytes | None, priority: float) -> None:
        self.begin = begin
        self.end = end
        self.max_end = end
        self.priority = priority
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None
        self.watchers: dict[T, None] = {}

    def is_before(self, other: "_Node[T]") -> bool:
        """Whether it stands before the other one; of ranges that begin together the shorter one is first."""
        if self.begin != other.begin:
            return self.begin < other.begin
        return self.end is not None and (other.end is None or self.end < other.end)

    def update(self) -> None:
        """Find the greatest end again, after a change below."""
        end = self.end
        for child in (self.left, self.right):
            if child is not None and end is not None and (child.max_end is None or child.max_end > end):
                end = child.max_end
        self.max_end = end


class WatcherIndex(Generic[T]):
    """Watchers, each of a key or a range.

    Args:
        random: for the shape of the tree, which clients must not be able to foresee.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._single: dict[bytes, dict[T, None]] = {}
        self._nodes: dict[tuple[bytes, bytes | None], _Node[T]] = {}
        self._root: _Node[T] | None = None

    def __bool__(self) -> bool:
        return bool(self._single or self._nodes)

    def add(self, key: bytes, range_end: bytes | None, watcher: T) -> None:
        """Add a watcher of a key, or of a range that is not empty."""
        if range_end is None:
            self._single.setdefault(key, {})[watcher] = None
            return
        end = None if range_end == TO_THE_LAST else range_end
        node = self._nodes.get((key, end))
        if node is None:
            node = self._nodes[key, end] = _Node(key, end, self._random.random())
            self._root = _insert(self._root, node)
        node.watchers[watcher] = None

    def remove(self, key: bytes, range_end: bytes | None, watcher: T) -> None:
        """Remove a watcher, if it is there."""
        if range_end is None:
            watchers = self._single.get(key, {})
            if watchers.pop(watcher, self) is None and not watchers:
                del self._single[key]
            return
        end = None if range_end == TO_THE_LAST else range_end
        node = self._nodes.get((key, end))
        if node is not None and node.watchers.pop(watcher, self) is None and not node.watchers:
            del self._nodes[key, end]
            self._root = _remove(self._root, node)

    def at(self, key: bytes) -> Iterable[T]:
        """The watchers of a key, each once; the index may change before they are passed."""
        found = list(self._single.get(key, ()))
        ahead = [self._root]
        while ahead:
            node = ahead.pop()
            if node is None or (node.max_end is not None and node.max_end <= key):
                continue
            ahead.append(node.left)
            if node.begin <= key:
                ahead.append(node.right)
                if node.end is None or key < node.end:
                    found += node.watchers
        return found


def _insert(tree: _Node[T] | None, node: _Node[T]) -> _Node[T]:
    if tree is None:
        return node
    if node.priority > tree.priority:
        node.left, node.right = _split(tree, node)
        node.update()
        return node
    if node.is_before(tree):
        tree.left = _insert(tree.left, node)
    else:
        tree.right = _insert(tree.right, node)
    tree.update()
    return tree


def _split(tree: _Node[T] | None, at: _Node[T]) -> tuple[_Node[T] | None, _Node[T] | None]:
    """What stands before `at`, and what behind it."""
    if tree is None:
        return None, None
    if tree.is_before(at):
        tree.right, behind = _split(tree.right, at)
        tree.update()
        return tree, behind
    before, tree.left = _split(tree.left, at)
    tree.update()
    return before, tree


def _remove(tree: _Node[T] | None, node: _Node[T]) -> _Node[T] | None:
    assert tree is not None, "a node is in the tree as long as it is in the map"
    if tree is node:
        return _merge(node.left, node.right)
    if node.is_before(tree):
        tree.left = _remove(tree.left, node)
    else:
        tree.right = _remove(tree.right, node)
    tree.update()
    return tree


def _merge(before: _Node[T] | None, behind: _Node[T] | None) -> _Node[T] | None:
    if before is None or behind is None:
        return before or behind
    if before.priority > behind.priority:
        before.right = _merge(before.right, behind)
        before.update()
        return before
    behind.left = _merge(before, behind.left)
    behind.update()
    return behind
