"""The data directory on a real disk: what was appended is there, and damage is told from a torn tail."""

import random
from pathlib import Path

import pytest

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import MIN_SEGMENT_BYTES, NodeConfig
from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState
from raftkv_trio.storage import Bootstrap, NodeStorage, OsDisk, open_storage
from raftkv_trio.storage.record import CUT_BYTES, end_of_data

SEGMENT_BYTES = 8192


def reopen(path: Path, node_id: int = 1) -> NodeStorage:
    bootstrap = Bootstrap(cluster_id=5, conf_state=ConfState(voters=(1,)), envelope=b"envelope")
    return open_storage(
        OsDisk(),
        path,
        node_id=node_id,
        bootstrap=bootstrap,
        rng=random.Random(1),
        segment_bytes=SEGMENT_BYTES,
    )


def entries(first: int, last: int, term: int = 2, size_bytes: int = 100) -> list[Entry]:
    return [Entry(term, index, data=bytes([index % 256]) * size_bytes) for index in range(first, last + 1)]


def segment(path: Path) -> Path:
    return max((path / "wal").glob("*.wal"))


def test_everything_appended_comes_back_over_many_segments(tmp_path: Path) -> None:
    """Entries and hard state survive clean restarts, across cuts of segments."""
    storage = reopen(tmp_path / "d")
    for index in range(2, 202):
        storage.append(HardState(2, 1, index - 1), entries(index, index, size_bytes=200))
    storage.close(clean=True)
    storage = reopen(tmp_path / "d")
    assert len(list((tmp_path / "d" / "wal").glob("*.wal"))) > 1
    assert storage.take_entries() == entries(2, 201, size_bytes=200)
    assert storage.hard_state == HardState(2, 1, 200)
    storage.close(clean=True)


def test_a_later_batch_replaces_the_suffix(tmp_path: Path) -> None:
    """A new leader's entries stand in place of the old one's after a restart."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 9))
    storage.append(HardState(3, None, 1), entries(5, 6, term=3))
    storage.close(clean=False)
    storage = reopen(tmp_path / "d")
    assert storage.take_entries() == entries(2, 4) + entries(5, 6, term=3)
    storage.close(clean=False)


def test_a_commit_index_alone_is_not_written_but_not_forgotten_either(tmp_path: Path) -> None:
    """It costs no write of its own, which a crash could tear with the next one; a clean stop keeps it."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 5))
    before = segment(tmp_path / "d").read_bytes()
    storage.append(HardState(2, 1, 4), [])
    assert segment(tmp_path / "d").read_bytes() == before
    storage.close(clean=True)
    storage = reopen(tmp_path / "d")
    assert storage.hard_state == HardState(2, 1, 4)
    storage.append(HardState(2, 1, 5), [])
    storage.append(None, entries(6, 6))
    storage.close(clean=False)
    storage = reopen(tmp_path / "d")
    assert storage.hard_state == HardState(2, 1, 5)
    storage.close(clean=False)


def test_that_a_conf_change_is_committed_is_written(tmp_path: Path) -> None:
    """Once: or a node could begin with voters who are no more, and wait for their votes."""
    storage = reopen(tmp_path / "d")
    change = Entry(2, 3, EntryType.CONF_CHANGE_V2)
    storage.append(HardState(2, 1, 1), [*entries(2, 2), change, *entries(4, 5)])
    for life in range(2):
        assert [storage.must_write(HardState(2, 1, commit), ()) for commit in (2, 3)] == [False, True]
        if life == 0:
            storage.close(clean=False)
            storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 4), ())
    assert not storage.must_write(HardState(2, 1, 5), ())
    storage.close(clean=False)
    storage = reopen(tmp_path / "d")
    assert storage.hard_state == HardState(2, 1, 4)
    storage.close(clean=False)


def test_a_record_with_a_sector_missing_at_the_end_is_cut_off_and_kept(tmp_path: Path) -> None:
    """A torn tail is reported and kept aside; what was before it is whole; the log goes on."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 3))
    storage.append(None, entries(4, 4, size_bytes=2000))
    storage.close(clean=False)
    path = segment(tmp_path / "d")
    data = bytearray(path.read_bytes())
    end = len(data.rstrip(b"\0"))
    sector = (end - 600) // 512 * 512
    data[sector : sector + 512] = bytes(512)
    path.write_bytes(data)
    storage = reopen(tmp_path / "d")
    assert storage.take_entries() == entries(2, 3)
    assert storage.torn_tail is not None
    assert storage.torn_tail.kept.exists()
    storage.append(None, entries(4, 4))
    storage.close(clean=True)
    storage = reopen(tmp_path / "d")
    assert storage.take_entries() == entries(2, 4)
    storage.close(clean=True)


def test_every_flipped_bit_of_a_small_log_is_refused(tmp_path: Path) -> None:
    """No single flipped bit in the records passes unseen, or passes for a torn tail."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 3, size_bytes=10))
    storage.close(clean=True)
    path = segment(tmp_path / "d")
    data = path.read_bytes()
    for bit in range(0, 8 * len(data.rstrip(b"\0"))):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(CorruptLog, match="offset"):
            reopen(tmp_path / "d")


@pytest.mark.parametrize(("lost", "words"), [("wal/*", "holds no log"), ("identity", "but no identity")])
def test_a_part_that_is_lost_is_missed(tmp_path: Path, lost: str, words: str) -> None:
    """Without its log or its identity a directory is refused, and not made anew over what is left."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 3))
    storage.close(clean=True)
    for path in (tmp_path / "d").glob(lost):
        path.unlink()
    left = sorted((tmp_path / "d").rglob("*"))
    with pytest.raises(CorruptLog, match=words):
        reopen(tmp_path / "d")
    assert sorted((tmp_path / "d").rglob("*")) == left


def test_an_emptied_log_is_missed(tmp_path: Path) -> None:
    """The first segment was durable before the identity: without a record it is no crash of its making."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(7, 3, 1), entries(2, 3))
    storage.close(clean=True)
    segment(tmp_path / "d").write_bytes(bytes(SEGMENT_BYTES))
    with pytest.raises(CorruptLog, match="corrupt at offset 0"):
        reopen(tmp_path / "d")


@pytest.mark.parametrize("size_bytes", range(400, 912, 8))
def test_a_record_whose_header_is_torn_in_two_is_cut_off(tmp_path: Path, size_bytes: int) -> None:
    """Wherever in a sector a record begins, the loss of all sectors but its first is a torn tail."""
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 2, size_bytes=size_bytes))
    begin = len(segment(tmp_path / "d").read_bytes().rstrip(b"\0"))
    storage.append(None, entries(3, 3, size_bytes=1500))
    storage.close(clean=False)
    path = segment(tmp_path / "d")
    data = bytearray(path.read_bytes())
    first_lost = (begin // 512 + 1) * 512
    data[first_lost:] = bytes(len(data) - first_lost)
    path.write_bytes(data)
    storage = reopen(tmp_path / "d")
    assert storage.take_entries() == entries(2, 2, size_bytes=size_bytes)
    storage.close(clean=False)


def test_a_directory_that_a_crash_left_half_made_is_made_again(tmp_path: Path) -> None:
    """The identity is written last: without it, and with an empty log, nothing has been promised."""
    reopen(tmp_path / "d").close(clean=False)
    (tmp_path / "d" / "identity").unlink()
    storage = reopen(tmp_path / "d")
    storage.append(HardState(2, 1, 1), entries(2, 3))
    storage.close(clean=True)
    storage = reopen(tmp_path / "d")
    assert storage.take_entries() == entries(2, 3)
    storage.close(clean=True)


def test_a_directory_in_use_or_of_another_node_is_refused(tmp_path: Path) -> None:
    """One sentence says whose directory it is, or that it is in use."""
    storage = reopen(tmp_path / "d")
    with pytest.raises(ConfigError, match="in use by a running node"):
        reopen(tmp_path / "d")
    storage.close(clean=True)
    with pytest.raises(ConfigError, match="belongs to node 1"):
        reopen(tmp_path / "d", node_id=2)


def test_a_batch_that_is_larger_than_a_segment_gets_one_of_its_own_size(tmp_path: Path) -> None:
    """The spare one, enlarged before it is written to, with room for the record that ends it."""
    storage = reopen(tmp_path)
    written = entries(2, 3)
    storage.append(HardState(2, 1, 1), written)
    storage.tidy()
    assert (tmp_path / "wal" / "spare").stat().st_size == SEGMENT_BYTES
    large, behind = entries(4, 23, size_bytes=SEGMENT_BYTES), entries(24, 25)
    storage.append(HardState(2, 1, 1), large)
    data = segment(tmp_path).read_bytes()
    assert len(data) - end_of_data(data) >= CUT_BYTES
    storage.append(HardState(2, 1, 1), behind)
    storage.close(clean=True)
    storage = reopen(tmp_path)
    assert storage.take_entries() == [*written, *large, *behind]
    storage.close(clean=True)


@pytest.mark.parametrize("segment_bytes", [-1, 0, MIN_SEGMENT_BYTES - 1])
def test_a_segment_has_room_for_what_begins_and_ends_it(segment_bytes: int) -> None:
    """Of none that is smaller, or has no size at all, a spare one could be made."""
    members = parse_cluster("http://one:1")
    with pytest.raises(ConfigError, match="`segment_bytes` must be at least 1024"):
        NodeConfig(node_id=1, members=members, data_dir=Path("d"), segment_bytes=segment_bytes)
