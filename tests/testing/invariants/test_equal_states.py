"""The hash that is compared among nodes covers all that a store holds, its past too."""

import pytest

from raftkv_trio.kv import Compact, Delete, Put, Store, Txn, encode_command
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing.invariants.equal_states import EqualStates
from raftkv_trio.testing.invariants.violation import Violation
from raftkv_trio.testing.simulator.watched_machine import WatchedMachine


def put(key: bytes, value: bytes) -> bytes:
    return encode_command(Txn(success=(Put(key, value),)))


A1, A2, B1 = put(b"a", b"1"), put(b"a", b"2"), put(b"b", b"1")
OTHER_A1 = put(b"a", b"0")
DELETE_A, DELETE_B = (encode_command(Txn(success=(Delete(key),))) for key in (b"a", b"b"))
A_AND_B = encode_command(Txn(success=(Put(b"a", b"1"), Put(b"b", b"1"))))
B_AND_A = encode_command(Txn(success=(Put(b"b", b"1"), Put(b"a", b"1"))))
COMPACT_2, COMPACT_3 = encode_command(Compact(2)), encode_command(Compact(3))

Commands = list[bytes]


def watched(states: EqualStates, node: int, commands: Commands) -> Store:
    """A node's store that has applied these commands, with the check looking on."""
    store = Store()
    last = len(commands) + 1

    def applied(committed: Committed, state: str) -> None:
        if committed.index == last:
            states.applied(node, last, state)

    machine = WatchedMachine(store, applied)
    machine.apply([Committed(1, index, command) for index, command in enumerate(commands, 2)])
    return store


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([A1, A2], [OTHER_A1, A2], id="a superseded value"),
        pytest.param([A1, B1, DELETE_A], [OTHER_A1, B1, DELETE_A], id="a deleted value"),
        pytest.param([A1, B1, DELETE_A, DELETE_B], [A1, B1, DELETE_B, DELETE_A], id="tombstones"),
        pytest.param([A_AND_B], [B_AND_A], id="the order of changes"),
        pytest.param([A1, A2, COMPACT_2], [A1, A2, COMPACT_3], id="the compacted revision"),
        pytest.param([A1, A2, COMPACT_3], [A1, A2, b"?"], id="a compaction"),
    ],
)
def test_another_history_is_another_state(one: Commands, other: Commands) -> None:
    """Stores that show the same key-values now, and differ in their past, are not equal."""
    states = EqualStates()
    here, there = watched(states, 1, one), watched(EqualStates(), 2, other)
    assert [record[:2] for record in here.range(b"a")] == [record[:2] for record in there.range(b"a")]
    with pytest.raises(Violation, match="node 2 has another state"):
        watched(states, 2, other)


@pytest.mark.parametrize(
    "commands",
    [
        [A1, A2, B1, DELETE_A, B_AND_A],
        [A1, A2, B1, COMPACT_3, DELETE_A],
        [A1, A2, DELETE_A, COMPACT_3, COMPACT_2],
    ],
)
def test_a_snapshot_restores_the_history(commands: Commands) -> None:
    """The same hash before and after, and after what both apply then, a compaction too."""
    states = EqualStates()
    store = watched(states, 1, commands)
    index = len(commands) + 1
    restored = Store()
    restored.restore(store.snapshot())
    states.restored(2, index, restored.state_hash)
    for later in (A2, encode_command(Compact(4)), B1, encode_command(Compact(5))):
        index += 1
        for node, machine in enumerate((store, restored), 1):
            machine.apply([Committed(1, index, later)])
            states.applied(node, index, machine.state_hash)
    assert restored.changes(6) == store.changes(6)


def test_a_snapshot_without_a_past_is_noticed() -> None:
    """Also if only what is superseded is missing."""
    states = EqualStates()
    watched(states, 1, [OTHER_A1, A2])
    other = watched(EqualStates(), 2, [A1, A2])
    with pytest.raises(Violation, match="restores another state"):
        states.restored(2, 3, other.state_hash)


def test_a_raised_level_is_no_other_state() -> None:
    """The hash of a level is no hash of the one before, so states are compared from its first command on."""
    states = EqualStates()
    store = watched(states, 1, [A1, A2])
    copy = Store()
    copy.set_level(1)
    states.restored(2, 4, copy.state_hash, level_since=4)
    with pytest.raises(Violation, match="restores another state"):
        states.restored(2, 4, copy.state_hash, level_since=2)
    states.restored(2, 4, store.state_hash, level_since=2)
