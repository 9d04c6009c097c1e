"""A damaged log rebuilt from the other members' directories: all that was acknowledged is there again."""

import copy
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.inspection import hold_directory
from raftkv_trio.offline.rebuild_log import rebuild_log
from raftkv_trio.offline.replace_log import finish_swap
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage import Bootstrap, NodeStorage, open_storage
from raftkv_trio.storage.log_reader import LogReader
from raftkv_trio.storage.record import SEGMENT, LogRecord, encode_record
from raftkv_trio.storage.segments import SegmentName
from raftkv_trio.storage.small_files import read_identity
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.raft.cores import Network, adding, bootstrap

NODES = (1, 2, 3)
INDEXES = (2, 3, 4, 5)
SEGMENT_BYTES = 4096


def home(node_id: int) -> Path:
    return Path(f"/srv/{node_id}")


def reopen(disk: SimulatedDisk, node_id: int, voters: Sequence[int] = NODES) -> NodeStorage:
    return open_storage(
        disk,
        home(node_id),
        node_id=node_id,
        bootstrap=Bootstrap(cluster_id=5, conf_state=ConfState(voters=tuple(voters)), envelope=b"\xa0"),
        rng=random.Random(node_id),
        segment_bytes=SEGMENT_BYTES,
    )


def mended(disk: SimulatedDisk, node_id: int, *others: int) -> list[str]:
    """Make good one directory from others, all of which are stopped; or end a repair that was cut short."""
    with ExitStack() as held:
        for each in (node_id, *others):
            held.enter_context(hold_directory(disk, home(each)))
        if finish_swap(disk, home(node_id)):
            return []
        return rebuild_log(disk, home(node_id), [home(each) for each in others], segment_bytes=SEGMENT_BYTES)


def entry(index: int, term: int) -> Entry:
    return Entry(term, index, data=b"%d/%d " % (term, index) * 5)


def four_entries(terms: Sequence[int], *, clean: bool) -> SimulatedDisk:
    """Three directories of one log, each entry written, and acknowledged by all, on its own."""
    disk = SimulatedDisk(random.Random(1))
    for node_id in NODES:
        storage = reopen(disk, node_id)
        for index, term in zip(INDEXES, terms, strict=True):
            storage.append(HardState(term, 1, index - 1), [entry(index, term)])
        storage.close(clean=clean)
    return disk


def damage(disk: SimulatedDisk, node_id: int, text: bytes) -> None:
    """Flip a bit of what follows the one place in the log where this is written."""
    ((path, data),) = [(p, d) for p, d in disk.files(home(node_id) / "wal").items() if text in d]
    offset = data.index(text)
    file = disk.open(path)
    file.write_at(offset, bytes([data[offset] ^ 4]))
    file.datasync()
    file.close()


def patterns(step: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Which entries are damaged on which nodes: all ways, or some of them."""
    places = list(product(NODES, INDEXES))
    for pattern in range(0, 2 ** len(places), step):
        yield tuple([place for bit, place in enumerate(places) if pattern >> bit & 1])


def is_refused(disk: SimulatedDisk, node_id: int) -> bool:
    try:
        reopen(disk, node_id).close(clean=False)
    except CorruptLog:
        return True
    return False


def elected(logs: dict[int, tuple[HardState, list[Entry]]], candidate: int) -> Network:
    """Cores of the three with these logs, of which one is elected, and brings the others to where it is."""
    network = Network(snapshot=bootstrap(NODES))
    for node_id, (hard_state, entries) in logs.items():
        network.add(node_id, entries, hard_state)
    network.elect(candidate)
    return network


@pytest.mark.parametrize(
    ("terms", "clean", "step"),
    [
        ((2, 2, 2, 2), False, 13),
        ((2, 2, 3, 4), True, 29),
        pytest.param((2, 2, 2, 2), False, 1, marks=pytest.mark.long),
        pytest.param((2, 2, 3, 4), True, 1, marks=pytest.mark.long),
    ],
)
def test_every_pattern_of_corruption(terms: tuple[int, ...], clean: bool, step: int) -> None:
    """Three nodes, four entries: who starts has all four; all do where each is intact on a majority."""
    whole = four_entries(terms, clean=clean)
    acknowledged = [entry(index, term) for index, term in zip(INDEXES, terms, strict=True)]
    counts: Counter[str] = Counter()
    for pattern in patterns(step):
        disk = copy.deepcopy(whole)
        for node_id, index in pattern:
            damage(disk, node_id, entry(index, terms[index - 2]).data)
        damaged = {node_id for node_id, _ in pattern}
        refused = set()
        for node_id in sorted(damaged):
            assert is_refused(disk, node_id)
            try:
                mended(disk, node_id, *[other for other in NODES if other != node_id])
            except ConfigError:
                refused.add(node_id)
        logs = {}
        for node_id in NODES:
            if node_id in refused:
                assert is_refused(disk, node_id)
                continue
            storage = reopen(disk, node_id)
            logs[node_id] = storage.hard_state, storage.take_entries()
            assert logs[node_id][1] == acknowledged
            assert storage.hard_state[:2] in {(terms[-1], 1), (terms[-1], node_id)}
            storage.close(clean=True)
        lost = Counter([index for _, index in pattern])
        on_a_majority = max(lost.values(), default=0) <= 1
        counts["patterns"] += 1
        counts["each entry on a majority"] += on_a_majority
        counts["recovered of those"] += on_a_majority and not refused
        counts["recovered of the others"] += not on_a_majority and not refused
        counts["refused in part"] += 0 < len(refused) < 3
        counts["refused"] += len(refused) == 3
        if on_a_majority:
            for node_id, core in elected(logs, 1 + counts["patterns"] % 3).cores.items():
                assert core.data == [e.data for e in acknowledged], f"node {node_id} after {pattern}"
    print(dict(counts))
    assert counts["recovered of those"] == counts["each entry on a majority"]


def test_a_newest_segment_that_is_lost_is_known_to_be_lost() -> None:
    """A log does not end where the segment before ends: alone it is not rebuilt, with the others it is."""
    disk = SimulatedDisk(random.Random(1))
    acknowledged = [Entry(2, index, data=bytes([index]) * 1000) for index in range(2, 10)]
    for node_id in NODES:
        storage = reopen(disk, node_id)
        for each in acknowledged:
            storage.append(HardState(2, 1, each.index - 1), [each])
        storage.close(clean=True)
    disk.unlink(max([path for path in disk.files(home(1) / "wal") if path.suffix == ".wal"]))
    assert is_refused(disk, 1)
    with pytest.raises(ConfigError, match="the end of its log is lost"):
        mended(disk, 1)
    mended(disk, 1, 2, 3)
    storage = reopen(disk, 1)
    assert storage.take_entries() == acknowledged
    storage.close(clean=True)


def test_a_segment_in_which_nothing_was_acknowledged_hides_no_end() -> None:
    """Who crashed when it had begun one, and not ended the one before, still tells its log's end."""
    disk = four_entries((2, 2, 2, 2), clean=False)
    damage(disk, 1, entry(5, 2).data)
    identity = read_identity(disk, home(2)).encode()
    log = LogReader(disk, home(2) / "wal", identity)
    log.read()
    assert log.batch is not None
    begun = LogRecord(log.contents.hard_state, (), log.contents.snapshot, identity)
    file = disk.open(home(2) / "wal" / str(SegmentName(2, 6)), create=True)
    file.write_at(0, encode_record(SEGMENT, log.batch + 2, begun.encode(), segment=2, offset=0))
    file.close()
    mended(disk, 1, 2, 3)
    storage = reopen(disk, 1)
    assert [each.index for each in storage.take_entries()] == [2, 3, 4, 5]
    storage.close(clean=True)


def test_a_log_taken_from_others_comes_with_what_they_know_to_be_committed() -> None:
    """Or it could hold two conf changes that its node has not applied, and elect a second leader."""
    changes = {3: 4, 5: 5}  # index, and who becomes a voter
    log = [
        replace(conf_change_entry(adding(changes[index])), term=2, index=index)
        if index in changes
        else entry(index, 2)
        for index in range(2, 7)
    ]
    disk = SimulatedDisk(random.Random(1))
    for node_id in (*NODES, 4, 5):
        storage = reopen(disk, node_id)
        for each in log[:1] if node_id == 2 else log:  # node 2 was down
            storage.append(HardState(2, 1, each.index - 1), [each])
        storage.close(clean=False)
    for each in log[-1], log[-3]:
        damage(disk, 1, each.data)
    assert is_refused(disk, 1)
    mended(disk, 1, 2, 3, 4, 5)
    storage = reopen(disk, 1)
    assert storage.hard_state == HardState(2, 1, 5)
    assert [e.index for e in storage.take_entries()] == [2, 3, 4, 5, 6]
