"""What `check` finds in snapshots that verify and hold no state."""

import random
from collections.abc import Sequence
from pathlib import Path

import cbor2
import pytest

from raftkv_trio import NodeConfig, parse_cluster
from raftkv_trio.kv import Put, Store, Txn
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.offline.check import check
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import OsDisk, SnapshotMeta

MEMBERS = parse_cluster("http://127.0.0.1:1")
ENVELOPE = Envelope.of(MEMBERS).encode()
META = SnapshotMeta(5, 1, ConfState(voters=(1,)))


def chunks_of_a_store() -> list[bytes]:
    store = Store()
    store.run(Txn(success=(Put(b"/key", b"value"),)))
    return list(store.snapshot())


def directory_with(path: Path, envelope: bytes, chunks: Sequence[bytes]) -> Path:
    """A data directory whose log continues a snapshot of these parts."""
    config = NodeConfig(node_id=1, members=MEMBERS, data_dir=path)
    storage = open_directory(OsDisk(), config, random.Random(1))
    file = storage.begin_snapshot(META, envelope)
    file.write(chunks)
    file.finish()
    storage.continue_from(META)
    storage.close(clean=True)
    return path


def test_a_state_of_the_store_is_sound(tmp_path: Path) -> None:
    """So is the snapshot that each directory begins with, which has no chunks."""
    found = check(OsDisk(), directory_with(tmp_path / "1", ENVELOPE, chunks_of_a_store()), Store())
    assert not found.problems
    assert [seen.id.index for seen in found.snapshots] == [1, 5]


@pytest.mark.parametrize(
    ("envelope", "chunks"),
    [
        (b"?", chunks_of_a_store()),
        (Envelope.of({}).encode(), chunks_of_a_store()),
        (ENVELOPE, [b"garbage"]),
        (ENVELOPE, chunks_of_a_store()[:-1]),
        (ENVELOPE, [cbor2.dumps([99, 1, 1])]),
    ],
    ids=["no envelope", "no members", "garbage", "the end is missing", "a newer version"],
)
def test_a_whole_file_around_garbage_is_found(
    tmp_path: Path, envelope: bytes, chunks: Sequence[bytes]
) -> None:
    """A start could not restore it. For another state machine's directory only the parts are verified."""
    path = directory_with(tmp_path / "1", envelope, chunks)
    (problem,) = check(OsDisk(), path, Store()).problems
    assert problem.file == path / "snap" / META.id.file_name
    assert "content cannot be restored" in problem.what
    assert not check(OsDisk(), path).problems
