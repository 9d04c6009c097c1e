"""The index of watchers finds what asking each of them would find."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.access.watching.index import WatcherIndex, _Node
from raftkv_trio.kv import TO_THE_LAST
from raftkv_trio.kv.txn import in_range

keys = st.binary(max_size=2).map(lambda data: bytes(byte % 4 for byte in data))
ends = st.one_of(st.none(), st.just(TO_THE_LAST), keys)
changes = st.lists(st.tuples(st.booleans(), keys, ends, st.integers(0, 3)), max_size=40)


def depth(node: _Node[int] | None) -> int:
    return 0 if node is None else 1 + max(depth(node.left), depth(node.right))


@given(changes, st.randoms(use_true_random=False))
def test_as_a_list_of_watchers(sequence: list[tuple[bool, bytes, bytes | None, int]], random: Random) -> None:
    """Whatever is added and removed, in whatever order, each key has the watchers whose range has it."""
    index: WatcherIndex[tuple[bytes, bytes | None, int]] = WatcherIndex(random)
    there: set[tuple[bytes, bytes | None, int]] = set()
    for is_added, key, end, number in sequence:
        if end is not None and end != TO_THE_LAST and key >= end:
            continue
        watcher = key, end, number
        if is_added:
            index.add(key, end, watcher)
            there.add(watcher)
        else:
            index.remove(key, end, watcher)
            there.discard(watcher)
        assert bool(index) == bool(there)
        for key in {b"", b"\0", b"\1\1", b"\3", *(key for key, _, _ in there)}:
            found = list(index.at(key))
            assert len(found) == len(set(found))
            assert set(found) == {one for one in there if in_range(key, one[0], one[1])}


def test_nested_ranges_make_no_deep_tree() -> None:
    """10,000 prefixes, each within the one before it, or side by side, in order."""
    nested: WatcherIndex[int] = WatcherIndex(Random(1))
    beside: WatcherIndex[int] = WatcherIndex(Random(1))
    for number in range(10_000):
        name = number.to_bytes(2, "big")
        nested.add(name, b"\xff\xff" + (20_000 - number).to_bytes(2, "big"), number)
        beside.add(name, name + b"\0", number)
    for index in (nested, beside):
        assert depth(index._root) < 60
    assert len(list(nested.at(b"\xff"))) == 10_000
    assert list(beside.at((77).to_bytes(2, "big"))) == [77]


def test_watchers_of_one_range_share_a_node() -> None:
    """A thousand watchers of the same range, and one of the same beginning."""
    index: WatcherIndex[int] = WatcherIndex()
    for number in range(1000):
        index.add(b"a", b"b", number)
    index.add(b"a", TO_THE_LAST, 1000)
    assert depth(index._root) == 2
    assert set(index.at(b"aa")) == set(range(1001))
    assert list(index.at(b"b")) == [1000]
