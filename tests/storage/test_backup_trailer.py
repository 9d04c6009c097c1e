"""The trailer of a backup that etcd's clients take."""

import hashlib

import pytest

from raftkv_trio.storage.backup_trailer import TrailerReader, trailer_of


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5000])
def test_a_trailer(size: int) -> None:
    """With it the size is a multiple of 512, and 32 more; its hash is of all before it."""
    backup = bytes(range(256)) * 20
    backup = backup[:size]
    trailer = trailer_of(size, hashlib.sha256(backup))
    whole = backup + trailer
    assert len(whole) % 512 == 32
    assert whole[-32:] == hashlib.sha256(whole[:-32]).digest()
    for bad in (trailer[:-1], trailer + b"\0", bytes(len(trailer)), b"\1" + trailer[1:]):
        reader = TrailerReader()
        reader.passed(backup)
        assert not (reader.takes(bad) and reader.is_right())
    reader = TrailerReader()
    reader.passed(backup)
    assert all(reader.takes(trailer[i : i + 1]) for i in range(len(trailer)))
    assert reader.is_right()
    reader = TrailerReader()
    reader.passed(backup)
    assert reader.is_right()  # none at all
