"""`identity` and `peers`, files that are written whole: no flipped bit passes, nor for something else."""

from pathlib import Path

import cbor2
import pytest

from raftkv_trio.errors import CorruptLog
from raftkv_trio.storage.sealed import seal
from tests.storage.test_node_storage import reopen


@pytest.mark.parametrize("name", ["identity", "peers"])
def test_every_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    """It is corruption, of this file and at this offset, and never a newer format, in the version either."""
    storage = reopen(tmp_path)
    storage.remember_directory_id(2, b"directory of two")
    storage.close(clean=True)
    path = tmp_path / name
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(CorruptLog, match=f"{path} is corrupt at offset 0"):
            reopen(tmp_path)
    print(f"{name}: {8 * len(data)} flipped bits")
    path.write_bytes(data)
    storage = reopen(tmp_path)
    assert storage.known_directory_ids == {2: b"directory of two"}
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
    ],
)
def test_what_verifies_and_is_no_such_file_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """Even where the CRC fits, nothing is taken that has another form."""
    reopen(tmp_path).close(clean=True)
    (tmp_path / name).write_bytes(seal(cbor2.dumps(value)))
    with pytest.raises(CorruptLog, match=f"{name} is corrupt at offset 0"):
        reopen(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 10])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    """An identity of which only the beginning is left is none, and no directory is made over it."""
    reopen(tmp_path).close(clean=True)
    (tmp_path / "identity").write_bytes((tmp_path / "identity").read_bytes()[:length])
    with pytest.raises(CorruptLog, match="identity is corrupt at offset 0"):
        reopen(tmp_path)
