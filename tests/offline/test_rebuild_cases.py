"""What a repair needs of the others, and what it says where that is not there."""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, ConfChangeV2, conf_change_entry
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import NodeStorage, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.offline.test_rebuild_log import damage, entry, home, is_refused, mended, reopen


def cluster(voters: Sequence[int], last: int = 5, term: int = 2) -> SimulatedDisk:
    """Directories of one log of entries from 2 to `last`, each written on its own."""
    disk = SimulatedDisk(random.Random(1))
    for node_id in voters:
        write(disk, node_id, [entry(index, term) for index in range(2, last + 1)], voters)
    return disk


def write(disk: SimulatedDisk, node_id: int, entries: Sequence[Entry], voters: Sequence[int]) -> None:
    storage = reopen(disk, node_id, voters)
    for each in entries:
        storage.append(HardState(each.term, 1, each.index - 1), [each])
    storage.close(clean=False)


def compact(disk: SimulatedDisk, node_id: int, index: int, term: int) -> None:
    """Have the log continue a snapshot of this entry, its last one, and little left of what that covers."""
    storage = reopen(disk, node_id)
    meta = SnapshotMeta(index, term, storage.snapshot.conf_state)
    file = storage.begin_snapshot(meta, b"\xa0")
    file.write([b"as of %d" % index])
    file.finish()
    storage.continue_from(meta)
    storage.tidy()
    storage.close(clean=False)
    assert not any(entry(3, 2).data in data for data in disk.files(home(node_id) / "wal").values())


def log_of(disk: SimulatedDisk, node_id: int) -> tuple[HardState, list[tuple[int, int]]]:
    storage: NodeStorage = reopen(disk, node_id)
    try:
        list(storage.snapshot_chunks(storage.snapshot.id))
        return storage.hard_state, [(e.term, e.index) for e in storage.take_entries()]
    finally:
        storage.close(clean=False)


def refusal(disk: SimulatedDisk, node_id: int, *others: int) -> str:
    before = disk.files(home(node_id))
    with pytest.raises(ConfigError) as raised:
        mended(disk, node_id, *others)
    assert disk.files(home(node_id)) == before
    assert is_refused(disk, node_id)
    return str(raised.value)


def test_one_other_is_enough_where_an_entry_lies_behind_the_damage() -> None:
    """It tells which entries were lost; where none does all others are needed, and it is said which."""
    disk = cluster((1, 2, 3))
    damage(disk, 1, entry(4, 2).data)
    mended(disk, 1, 3)
    assert log_of(disk, 1) == (HardState(2, 1, 4), [(2, 2), (2, 3), (2, 4), (2, 5)])
    damage(disk, 2, entry(5, 2).data)
    assert refusal(disk, 2, 3).endswith("that of node 1 is missing")
    mended(disk, 2, 3, 1)
    assert log_of(disk, 2) == (HardState(2, 2, 4), [(2, 2), (2, 3), (2, 4), (2, 5)])


def test_a_majority_of_lost_ends_is_refused() -> None:
    """Of three, two; of five, three; and a node alone has nobody who could tell."""
    disk = cluster((1, 2, 3))
    for node_id in (1, 2):
        damage(disk, node_id, entry(5, 2).data)
    assert "the end of the log of nodes 1 and 2 is lost" in refusal(disk, 1, 2, 3)
    five = cluster((1, 2, 3, 4, 5))
    for node_id in (1, 2):
        damage(five, node_id, entry(5, 2).data)
    mended(five, 1, 2, 3, 4, 5)
    assert log_of(five, 1)[1][-1] == (2, 5)
    alone = cluster((1,))
    damage(alone, 1, entry(5, 2).data)
    assert "the end of the log of node 1 is lost" in refusal(alone, 1)


def test_a_log_that_is_lost_as_a_whole_is_that_of_the_others() -> None:
    """Its snapshot is here; its votes are made up for by a vote for itself in the largest term."""
    disk = cluster((1, 2, 3))
    write(disk, 3, [entry(5, 4)], (1, 2, 3))
    for path in disk.files(home(1) / "wal"):
        disk.unlink(path)
    mended(disk, 1, 2, 3)
    assert log_of(disk, 1) == (HardState(4, 1, 4), [(2, 2), (2, 3), (2, 4), (4, 5)])


def test_where_the_others_have_compacted_their_logs_a_snapshot_of_theirs_is_taken() -> None:
    """Also by a member that was behind: what it lacks is in the snapshot, which holds what was committed."""
    disk = cluster((1, 2, 3), last=80)
    damage(disk, 1, entry(3, 2).data)
    for node_id in (2, 3):
        compact(disk, node_id, 80, 2)
    mended(disk, 1, 2)
    assert log_of(disk, 1) == (HardState(2, 1, 80), [])
    behind = cluster((1, 2, 3), last=10)
    damage(behind, 1, entry(3, 2).data)
    for node_id in (2, 3):
        write(behind, node_id, [entry(index, 3) for index in range(11, 81)], (1, 2, 3))
        compact(behind, node_id, 80, 3)
    mended(behind, 1, 2)
    assert log_of(behind, 1) == (HardState(3, None, 80), [])


def test_what_was_overwritten_in_the_damage_does_not_come_back() -> None:
    """Entries before damage may have been replaced in it: they need not be those before what follows."""
    disk = cluster((1, 2, 3), last=3)
    for node_id in (1, 2, 3):
        write(disk, node_id, [entry(3, 3), entry(4, 4)], (1, 2, 3))
    damage(disk, 1, entry(3, 3).data)
    damaged = copy.deepcopy(disk)
    mended(disk, 1, 2)
    assert log_of(disk, 1)[1] == [(2, 2), (3, 3), (4, 4)]
    damage(damaged, 2, entry(3, 3).data)
    assert "entry 3, which stood before entry 4 of term 4, is intact in none" in refusal(damaged, 1, 2)
    mended(damaged, 1, 2, 3)
    assert log_of(damaged, 1)[1] == [(2, 2), (3, 3), (4, 4)]


def test_every_configuration_that_the_log_passes_through_counts() -> None:
    """A voter that was added must tell what it has, or what was agreed on with it would be missed."""
    disk = cluster((1, 2))
    change = ConfChangeV2((ConfChangeSingle(ConfChangeType.ADD_VOTER, 3),))
    added = replace(conf_change_entry(change), term=2, index=6)
    for node_id in (1, 2):
        write(disk, node_id, [added], (1, 2))
    write(disk, 1, [entry(7, 2)], (1, 2))
    damage(disk, 1, entry(7, 2).data)
    assert refusal(disk, 1, 2).endswith("that of node 3 is missing")
    write(disk, 3, [*[entry(index, 2) for index in range(2, 6)], added, entry(7, 2)], (1, 2))
    mended(disk, 1, 2, 3)
    assert log_of(disk, 1)[1][-2:] == [(2, 6), (2, 7)]


def test_directories_that_contradict_each_other_are_refused() -> None:
    """One entry of a term and index has one content, and a log is that of its directory."""
    disk = cluster((1, 2))
    write(disk, 3, [entry(2, 2), Entry(2, 3, data=b"another")], (1, 2, 3))
    damage(disk, 1, entry(4, 2).data)
    assert "entry 3 of term 2 differs between the directories" in refusal(disk, 1, 2, 3)
    disk = cluster((1, 2, 3))
    damage(disk, 1, entry(4, 2).data)
    (foreign,) = disk.files(home(3) / "wal")
    disk.rename(foreign, home(2) / "wal" / foreign.name)
    assert "/srv/2/wal/00000001-0000000000000002.wal belongs to another" in refusal(disk, 1, 2)
