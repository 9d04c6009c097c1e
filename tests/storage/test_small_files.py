"""The small files, which are written whole: no flipped bit passes, nor a part, nor something else."""

from pathlib import Path

import cbor2
import pytest

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.check import check
from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import seal, write_origin
from tests.storage.test_node_storage import reopen

NAMES = ["identity", "peers", "origin", "removed", "lost"]


def make(path: Path, name: str) -> bytes:
    """A directory that has met another member, and has the file `name`; what that holds."""
    storage = reopen(path)
    storage.remember_key(2, b"directory of two")
    if name == "origin":
        write_origin(OsDisk(), path, bytes(range(8)))
    if name == "removed":
        storage.mark_removed(300)
    if name == "lost":
        storage.mark_lost(300)
    storage.close(clean=True)
    return (path / name).read_bytes()


def refused(path: Path, name: str) -> None:
    """A start says of the file that it is corrupt, and so does `check`, of nothing else."""
    with pytest.raises(CorruptLog, match=f"{path / name} is corrupt at offset 0"):
        reopen(path)
    assert [problem[:2] for problem in check(OsDisk(), path).problems] == [(path / name, 0)]


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    """It is corruption, of this file and at this offset, and never a newer format, in the version either."""
    data, path = make(tmp_path, name), tmp_path / name
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        refused(tmp_path, name)
    print(f"{name}: {8 * len(data)} flipped bits")
    path.write_bytes(data)
    found = check(OsDisk(), tmp_path)
    assert found.problems == []
    if name == "removed":
        assert found.removed == 300
        with pytest.raises(ConfigError, match="removed from its cluster, by entry 300"):
            reopen(tmp_path)
        return
    storage = reopen(tmp_path)
    assert (found.lost, storage.lost_up_to) == ((300, 300) if name == "lost" else (None, None))
    assert storage.known_keys == {2: b"directory of two"}
    assert storage.origin == (bytes(range(8)) if name == "origin" else None)
    storage.close(clean=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity", [1, 5, 1]),
        ("identity", [1, 5, 1, "text"]),
        ("identity", {}),
        ("peers", []),
        ("peers", {2: "text"}),
        ("peers", {"2": b"directory of two"}),
        ("origin", None),
        ("origin", 5),
        ("removed", None),
        ("removed", True),
        ("lost", "300"),
    ],
)
def test_what_verifies_and_is_no_such_file_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """Even where the CRC fits, nothing is taken that has another form."""
    reopen(tmp_path).close(clean=True)
    (tmp_path / name).write_bytes(seal(cbor2.dumps(value)))
    with pytest.raises(CorruptLog, match=f"{name} is corrupt at offset 0"):
        reopen(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    """Whatever of its beginning is left, or nothing of it; and no directory is made over it."""
    data = make(tmp_path, name)
    for length in range(len(data)):
        (tmp_path / name).write_bytes(data[:length])
        refused(tmp_path, name)
