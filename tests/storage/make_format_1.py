"""How `format_1_cut/` was made, a data directory of format 1: python -m tests.storage.make_format_1

`format_1/` was made so too, before a record ended each segment but the last. Both stay as they are. A later
format gets a directory and a script of its own; every version opens them all.
"""

import random
import shutil
from pathlib import Path

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.kv import Delete, Put, Store, Txn, encode_txn
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.state_machine import Committed
from raftkv_trio.storage import Bootstrap, NodeStorage, OsDisk, SnapshotMeta, open_storage

FORMAT_1 = Path(__file__).parent / "format_1"
FORMAT_1_CUT = FORMAT_1.with_name("format_1_cut")
MEMBERS = "http://10.0.0.1:9021,http://10.0.0.2:9021,http://10.0.0.3:9021"
VOTERS = ConfState(voters=(1, 2, 3))
SEGMENT_BYTES = 4096
LAST_INDEX = 90


def open_directory(path: Path) -> NodeStorage:
    """The directory of node 2, by the newest code."""
    bootstrap = Bootstrap(
        cluster_id=0xC0FFEE, conf_state=VOTERS, envelope=Envelope.of(parse_cluster(MEMBERS)).encode()
    )
    return open_storage(
        OsDisk(), path, node_id=2, bootstrap=bootstrap, rng=random.Random(1), segment_bytes=SEGMENT_BYTES
    )


def command(index: int) -> bytes:
    """Of each index from 3 on: ten keys are written in turn, and every seventh command deletes one."""
    key = b"/key-%d" % (index % 10)
    operation = Delete(key) if index % 7 == 0 else Put(key, b"value of index %d " % index * 5)
    return encode_txn(Txn((), (operation,), ()))


def term(index: int) -> int:
    return 2 if index <= 25 else 5


def entries(first: int, last: int) -> list[Entry]:
    """The first entry of term 2 is a new leader's empty one."""
    return [
        Entry(term(i), i, data=b"" if i == 2 else encode_proposal(ProposalId(1, 77, i), command(i)))
        for i in range(first, last + 1)
    ]


def store_at(index: int) -> Store:
    """The store when everything up to `index` is applied."""
    store = Store()
    store.apply([Committed(term(i), i, command(i)) for i in range(3, index + 1)])
    return store


def make(path: Path) -> None:
    storage = open_directory(path)
    storage.remember_key(1, b"directory id of 1")
    storage.remember_key(3, b"directory id of 3")
    for begin in range(2, LAST_INDEX + 1, 4):
        last = min(begin + 3, LAST_INDEX)
        storage.append(HardState(term(last), 1, begin), entries(begin, last))
        if last in (21, 41):
            snapshot(storage, last)
        storage.tidy()
    storage.append(HardState(6, 3, LAST_INDEX - 2), ())
    storage.close(clean=True)


def snapshot(storage: NodeStorage, index: int) -> None:
    meta = SnapshotMeta(index, term(index), VOTERS)
    file = storage.begin_snapshot(meta, storage.read_envelope(storage.snapshot.id))
    file.write(store_at(index).snapshot())
    file.finish()
    storage.continue_from(meta)


if __name__ == "__main__":
    shutil.rmtree(FORMAT_1_CUT, ignore_errors=True)
    make(FORMAT_1_CUT)
