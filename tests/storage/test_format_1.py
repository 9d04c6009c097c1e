"""Data directories of format 1, made when it was current: every version opens them and loses nothing."""

import shutil
from hashlib import sha256
from pathlib import Path

import cbor2
import pytest

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv import Store
from raftkv_trio.node.recovery import read_envelope, restore_machine
from raftkv_trio.offline.check import check
from raftkv_trio.offline.inspection import hold_directory
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.proposal import decode_proposal
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.state_machine import Committed
from raftkv_trio.storage import OsDisk, SnapshotId, SnapshotMeta
from tests.storage.make_format_1 import (
    FORMAT_1,
    FORMAT_1_CUT,
    LAST_INDEX,
    MEMBERS,
    VOTERS,
    entries,
    open_directory,
)

# Written down when the directory was made: how the newest code would write it proves nothing.
DIRECTORY_ID = "cd613e30d8f16adf91b7584a2265b1f5"
ENTRIES = "318fc03b42dfea1b58ab2f1f91ab0ed6162a7e17dd6fc30a9676555d6a12b7ed"
STATE_HASH_AT_21 = "94298bbd6d18b39e90b3eed08c1a9de7"
STATE_HASH = "796095f126428f79f577766b5b1df6e0"


def digest(entries: list[Entry]) -> str:
    return sha256(repr([(e.term, e.index, int(e.type), e.data) for e in entries]).encode()).hexdigest()


@pytest.fixture(params=[FORMAT_1, FORMAT_1_CUT], ids=lambda path: path.name)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(request.param, tmp_path / "data")
    return tmp_path / "data"


def test_it_opens_and_holds_what_it_must(directory: Path) -> None:
    """Identity, hard state, other members, snapshot and entries, over a second start too."""
    for _ in range(2):
        storage = open_directory(directory)
        assert (storage.identity.cluster_id, storage.identity.node_id) == (0xC0FFEE, 2)
        assert storage.identity.directory_id == bytes.fromhex(DIRECTORY_ID)
        assert storage.identity.format_version == 1
        assert storage.origin is None
        assert storage.known_keys == {1: b"directory id of 1", 3: b"directory id of 3"}
        assert storage.hard_state == HardState(term=6, vote=3, commit=88)
        assert storage.snapshot == SnapshotMeta(41, 5, VOTERS)
        assert Envelope.decode(storage.read_envelope(storage.snapshot.id)).addresses == parse_cluster(MEMBERS)
        assert storage.torn_tail is None
        assert digest(storage.take_entries()) == ENTRIES
        storage.close(clean=True)


def store_of_level_1() -> Store:
    """The store as it was when these directories were made."""
    store = Store()
    store.set_level(1)
    return store


def test_its_state_is_what_was_written(directory: Path) -> None:
    """The snapshots restore the store of their moments, and the entries behind the newest make the rest."""
    storage = open_directory(directory)
    older = store_of_level_1()
    older.restore(storage.snapshot_chunks(SnapshotId(2, 21)))
    assert older.state_hash == STATE_HASH_AT_21
    assert [record.key for record in older.range(b"")] == [
        b"/key-%d" % i for i in range(10) if i not in (1, 4)
    ]
    store = store_of_level_1()
    store.restore(storage.snapshot_chunks(storage.snapshot.id))
    for entry in storage.take_entries():
        _, command = decode_proposal(entry.data)
        store.apply([Committed(entry.term, entry.index, command)])
    storage.close(clean=True)
    assert store.state_hash == STATE_HASH
    held = {record.key: record.value for record in store.range(b"")}
    assert held[b"/key-0"] == b"value of index 90 " * 5
    assert held[b"/key-9"] == b"value of index 89 " * 5
    assert b"/key-4" not in held  # entry 84 deleted it
    assert len(held) == 9


def test_it_is_found_sound_and_is_of_several_segments_and_snapshots(directory: Path) -> None:
    """It has what can be there: else it would prove little."""
    with hold_directory(OsDisk(), directory):
        found = check(OsDisk(), directory)
    assert found.problems == []
    assert found.leftovers == []
    assert [seen.id.index for seen in found.snapshots] == [1, 21, 41]
    assert len(found.segments) > 1
    assert found.entries == (42, 90)
    assert found.feature_level == 1


def test_a_node_opens_it_at_feature_level_1(directory: Path) -> None:
    """Whatever level its program knows: members of the release that made it read what it writes."""
    storage = open_directory(directory)
    store = Store()
    restore_machine(store, storage)
    assert store.level == 1
    assert cbor2.loads(read_envelope(storage).encode())[0] == 2  # the version that it reads
    storage.close(clean=True)


def test_its_newest_segment_is_missed(directory: Path) -> None:
    """Once the log was cut by a version that ends each segment but the last with a record."""
    storage = open_directory(directory)
    storage.append(HardState(7, 1, LAST_INDEX), entries(LAST_INDEX + 1, LAST_INDEX + 20))
    storage.close(clean=True)
    wal = sorted((directory / "wal").glob("*.wal"))
    assert len(wal) == 3
    wal[-1].unlink()
    with pytest.raises(CorruptLog, match=f"lacks segment 4, in which the log goes on behind {wal[-2]}"):
        open_directory(directory)
