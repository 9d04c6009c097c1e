"""New addresses for members that have all moved: in the snapshot, in the log, and nothing else."""

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.offline.set_addresses import set_addresses
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange, Membership
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState
from raftkv_trio.storage import Bootstrap, NodeStorage, SnapshotMeta, open_storage
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk

DATA = Path("/data")
SEGMENT_BYTES = 4096
OLD = {1: PeerAddress("old", 1), 2: PeerAddress("old", 2), 3: PeerAddress("old", 3)}
NEW = {1: PeerAddress("new", 1), 3: PeerAddress("new", 3), 4: PeerAddress("new", 4)}
AFTER = {1: NEW[1], 2: PeerAddress("moved", 2), 3: NEW[3], 4: NEW[4]}
VOTERS = ConfState(voters=(1, 2, 3))
HARD_STATE = HardState(5, 2, 4)
SNAPSHOT = SnapshotMeta(2, 5, VOTERS)


def reopen(disk: SimulatedDisk) -> NodeStorage:
    bootstrap = Bootstrap(cluster_id=7, conf_state=VOTERS, envelope=Envelope.of(OLD).encode())
    return open_storage(
        disk, DATA, node_id=1, bootstrap=bootstrap, rng=random.Random(1), segment_bytes=SEGMENT_BYTES
    )


def change(index: int, *changes: MemberChange) -> Entry:
    entry = conf_change_entry(ChangeRequest(changes).conf_change(ProposalId(1, 2, index)))
    return Entry(5, index, entry.type, entry.data)


def entries() -> list[Entry]:
    """Behind the snapshot: a value, a member that moves, one that is added, and the end of a joint change."""
    return [
        Entry(5, 3, data=b"value"),
        change(
            4, MemberChange(Action.UPDATE, 2, AFTER[2]), MemberChange(Action.ADD, 4, PeerAddress("old", 4))
        ),
        Entry(5, 5, data=b"another value"),
    ]


def make_disk(seed: int = 1) -> SimulatedDisk:
    disk = SimulatedDisk(random.Random(seed))
    storage = reopen(disk)
    storage.append(HARD_STATE._replace(commit=2), [Entry(5, 2, data=b"in the snapshot")])
    file = storage.begin_snapshot(SNAPSHOT, Envelope.of(OLD).encode())
    file.write([b"the machine's", b"chunks"])
    file.finish()
    storage.continue_from(SNAPSHOT)
    storage.append(HARD_STATE, entries())
    storage.close(clean=True)
    return disk


def move(disk: SimulatedDisk, addresses: Mapping[int, PeerAddress] = NEW) -> Mapping[int, PeerAddress]:
    return set_addresses(DATA, addresses, disk=disk, segment_bytes=SEGMENT_BYTES).members


def check_moved(disk: SimulatedDisk) -> None:
    """All is there as it was, but for the addresses."""
    storage = reopen(disk)
    try:
        assert storage.hard_state == HARD_STATE
        assert storage.snapshot == SNAPSHOT
        assert list(storage.snapshot_chunks(SNAPSHOT.id)) == [b"the machine's", b"chunks"]
        envelope = Envelope.decode(storage.read_envelope(SNAPSHOT.id))
        assert envelope.addresses == {1: NEW[1], 2: OLD[2], 3: NEW[3]}
        membership = Membership(envelope, VOTERS)
        found = storage.take_entries()
        for entry, before in zip(found, entries(), strict=True):
            assert (entry.term, entry.index, entry.type) == (before.term, before.index, before.type)
            if entry.type is EntryType.NORMAL:
                assert entry == before
            else:
                assert membership.apply(entry) == ProposalId(1, 2, entry.index)
        assert membership.envelope.addresses == AFTER
    finally:
        storage.close(clean=False)


def test_nothing_else_changes() -> None:
    """Snapshot and log have the new addresses; each entry, term, vote and chunk is as it was."""
    disk = make_disk()
    assert move(disk) == AFTER
    check_moved(disk)
    assert move(disk) == AFTER
    check_moved(disk)


def test_after_a_crash_at_any_operation_it_can_be_done_again() -> None:
    """Whatever a crash leaves, doing it again leads to the same end."""
    number = 0
    while True:
        disk = make_disk(number)
        disk.halt_at(number, power=number % 2 == 0)
        try:
            move(disk)
        except Halted:
            assert move(disk) == AFTER, f"after a halt in operation {number}"
            check_moved(disk)
        else:
            break
        number += 1
    assert number > 20


@pytest.mark.parametrize(
    ("addresses", "sentence"),
    [
        ({5: NEW[1]}, "node 5 is not a member of this cluster"),
        ({1: AFTER[2]}, "http://moved:2 is the address of node 2"),
    ],
)
def test_addresses_that_make_no_sense(addresses: Mapping[int, PeerAddress], sentence: str) -> None:
    """They are refused, and the directory stays as it is."""
    disk = make_disk()
    before = disk.files(DATA / "snap")
    with pytest.raises(ConfigError, match=sentence):
        move(disk, addresses)
    assert disk.files(DATA / "snap") == before
    assert not disk.exists(DATA / "wal.replaced-1")


def test_a_member_that_is_not_known_here_yet() -> None:
    """A member that lags takes the addresses that it knows, and says which it does not."""
    disk = make_disk()
    moved = set_addresses(DATA, {**NEW, 9: PeerAddress("new", 9)}, disk=disk, segment_bytes=SEGMENT_BYTES)
    assert (moved.members, moved.unknown) == (AFTER, [9])
    check_moved(disk)


def test_a_directory_in_use() -> None:
    """The directory of a running node is refused; so is one that is none."""
    disk = make_disk()
    storage = reopen(disk)
    with pytest.raises(ConfigError, match="in use"):
        move(disk)
    storage.close(clean=True)
    with pytest.raises(ConfigError, match="no data directory"):
        set_addresses(Path("/elsewhere"), NEW, disk=disk)
