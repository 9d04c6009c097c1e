"""A directory's feature level is shown, and kept by everything that makes a directory of another one."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from raftkv_trio import NodeConfig, parse_cluster
from raftkv_trio.errors import ConfigError, UpgradeNeeded
from raftkv_trio.kv import Put, Store, Txn, encode_command
from raftkv_trio.node.applier import apply_entries
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory, read_envelope, restore_machine
from raftkv_trio.offline.check import check
from raftkv_trio.offline.force_new_cluster import force_new_cluster
from raftkv_trio.offline.restore import restore_node
from raftkv_trio.offline.set_addresses import set_addresses
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST
from raftkv_trio.payload.membership import ChangeRequest, Membership
from raftkv_trio.payload.proposal import LEADER_ITSELF, ProposalId, encode_proposal
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage import OsDisk, SnapshotMeta
from raftkv_trio.storage.backup_trailer import trailer_of
from raftkv_trio.world import World

MEMBERS = parse_cluster("http://127.0.0.1:1")
META = SnapshotMeta(5, 1, ConfState(voters=(1,)))


def config(path: Path) -> NodeConfig:
    return NodeConfig(node_id=1, members=MEMBERS, data_dir=path, segment_bytes=64 * 1024)


def raising(index: int, level: int) -> Entry:
    request = ChangeRequest((), raises_to=level)
    return replace(conf_change_entry(request.conf_change(LEADER_ITSELF)), term=1, index=index)


def putting(index: int) -> Entry:
    command = encode_command(Txn((), (Put(b"/key", b"value %d" % index),), ()))
    return Entry(1, index, data=encode_proposal(ProposalId(1, 1, index), command))


def made(path: Path, level: int, entries: Sequence[Entry] = ()) -> Path:
    """The directory of the only member of a cluster of this level, with a snapshot and these entries."""
    storage = open_directory(OsDisk(), config(path), random.Random(1))
    store = Store()
    store.set_level(level)
    store.apply([])
    file = storage.begin_snapshot(META, Envelope.of(MEMBERS, level=level, since=3).encode())
    file.write(list(store.snapshot()))
    file.finish()
    storage.continue_from(META)
    storage.append(HardState(1, 1, META.index + len(entries)), entries)
    storage.close(clean=True)
    return path


def level_of(path: Path) -> tuple[int, int, int]:
    """Of a directory: its snapshot's level, since when, and that of a store restored from it."""
    storage = open_directory(OsDisk(), config(path), random.Random(1))
    try:
        store = Store()
        restore_machine(store, storage)
        envelope = read_envelope(storage)
        return envelope.level, envelope.level_since, store.level
    finally:
        storage.close(clean=True)


def test_a_new_directory_is_of_the_highest_level(tmp_path: Path) -> None:
    """And one of before has level 1; what is in the log behind the snapshot counts."""
    assert level_of(tmp_path / "new") == (HIGHEST, 1, HIGHEST)
    assert level_of(made(tmp_path / "old", 1)) == (1, 0, 1)
    path = made(tmp_path / "raised", 1, [putting(6), raising(7, 2), putting(8)])
    assert level_of(path) == (1, 0, 1)
    names = ("new", "old", "raised")
    assert [check(OsDisk(), tmp_path / name).feature_level for name in names] == [HIGHEST, 1, 2]


def test_commands_before_and_behind_the_entry_are_applied_at_their_levels(tmp_path: Path) -> None:
    """Although all of them may be applied at once."""
    store, other = Store(), Store()
    membership = Membership(Envelope.of(MEMBERS), META.conf_state)
    entries = [putting(6), raising(7, 2), putting(8), raising(9, 2), putting(10)]
    for machine in (store, other):
        machine.set_level(1)
    assert len(apply_entries(store, membership, entries)) == len(entries)
    assert (membership.envelope.level, membership.envelope.level_since) == (2, 7)
    assert store.compacted_revision == 2
    membership = Membership(Envelope.of(MEMBERS), META.conf_state)
    for entry in entries:
        apply_entries(other, membership, [entry])
    assert other.state_hash == store.state_hash
    assert (membership.envelope.level, membership.envelope.level_since) == (2, 7)


@pytest.mark.parametrize(("level", "since"), [(1, 0), (2, 3), (3, 3), (4, 3)])
def test_a_forced_cluster_has_the_level_of_its_state(tmp_path: Path, level: int, since: int) -> None:
    """It raises it by itself when it runs."""
    force_new_cluster(made(tmp_path / "old", level, [putting(6)]), tmp_path / "new")
    assert level_of(tmp_path / "new") == (level, since, level)


def test_a_forced_cluster_takes_the_entry_that_raises_it(tmp_path: Path) -> None:
    """As all other entries that its log holds."""
    force_new_cluster(made(tmp_path / "old", 1, [putting(6), raising(7, 2)]), tmp_path / "new")
    assert level_of(tmp_path / "new") == (2, 7, 2)


@pytest.mark.parametrize(("level", "since"), [(1, 0), (2, 3), (3, 3), (4, 3)])
def test_a_restored_cluster_has_the_level_of_its_backup(tmp_path: Path, level: int, since: int) -> None:
    """So members that are restored by an older version and by this one fit together, if the backup is old."""
    backup = made(tmp_path / "old", level) / "snap" / META.id.file_name
    restore_node(config(tmp_path / "new"), backup)
    assert level_of(tmp_path / "new") == (level, since, level)


def test_a_backup_that_etcdctl_saved_is_restored(tmp_path: Path) -> None:
    """What follows it is no damage, also in a backup that is read as a whole at once."""
    backup = made(tmp_path / "old", 2) / "snap" / META.id.file_name
    data = backup.read_bytes()
    saved = tmp_path / "saved"
    saved.write_bytes(data + trailer_of(len(data), hashlib.sha256(data)))
    restore_node(config(tmp_path / "new"), saved)
    assert level_of(tmp_path / "new") == (2, 3, 2)


def test_a_backup_of_a_level_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """Nothing is made, and the sentence says what to do."""
    path = made(tmp_path / "old", 2)
    file = OsDisk()
    envelope = Envelope.of(MEMBERS, level=HIGHEST + 1, since=4).encode()
    storage = open_directory(file, config(path), random.Random(1))
    snapshot = storage.begin_snapshot(SnapshotMeta(9, 1, META.conf_state), envelope)
    backup = snapshot.finish()
    storage.close(clean=True)
    sentence = f"feature level {HIGHEST + 1}; this program knows feature levels up to {HIGHEST}"
    with pytest.raises(ConfigError, match=sentence):
        restore_node(config(tmp_path / "new"), backup)
    assert not (tmp_path / "new").exists()


def test_other_addresses_leave_the_level_as_it_is(tmp_path: Path) -> None:
    """In the snapshot, and in the entry that raises it."""
    path = made(tmp_path / "1", 1, [raising(6, 2)])
    set_addresses(path, parse_cluster("http://127.0.0.1:2"), segment_bytes=64 * 1024)
    found = check(OsDisk(), path, Store())
    assert not found.problems
    assert found.feature_level == 2
    path = made(tmp_path / "2", 2)
    set_addresses(path, parse_cluster("http://127.0.0.1:2"), segment_bytes=64 * 1024)
    assert check(OsDisk(), path, Store()).feature_level == 2


@pytest.mark.parametrize("entries", [[raising(6, 2)], []], ids=["in the log", "in the snapshot"])
def test_a_program_that_does_not_know_the_level_does_not_start(
    tmp_path: Path, entries: Sequence[Entry]
) -> None:
    """It was set back after the level had risen: it would apply the log by other rules than the others."""
    storage = open_directory(
        OsDisk(), config(made(tmp_path / "1", 1 if entries else 2, entries)), random.Random(1)
    )
    try:
        with pytest.raises(UpgradeNeeded, match="feature level 2; this program knows feature levels up to 1"):
            NodeParts(config(tmp_path / "1"), Store(), storage, World(highest_level=1))
    finally:
        storage.close(clean=True)
