"""How the store keeps a key-value: under its key, as one piece of bytes.

    create revision u64 | mod revision u64 | version u64 | lease u64, all ones for none | value

In the history a record of version 0 and without a value is a *tombstone*: its revision deleted the key.

A `KeyValue` for each key would cost 160 bytes a key more, and each would be one more object that the garbage
collector looks at: with a million keys, one of its full rounds stops the node for a quarter of a second. So a
`KeyValue` is made when somebody asks for it. This form is not written anywhere, and may change.
"""

from collections.abc import Callable
from hashlib import blake2b
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

#: A record without its value has this size.
HEAD_BYTES = 32
DIGEST_BYTES = 16
_HEAD = Struct(">QQQQ")
_LENGTH = Struct(">Q")
#: The version of a tombstone, as 8 bytes.
NO_VERSION = bytes(8)
_NO_LEASE = 2**64 - 1
_NO_LEASE_BYTES = b"\xff" * 8
_REVISIONS_AND_VERSION = Struct(">QQQ")


class KeyValue(NamedTuple):
    """A key with its value at some revision.

    Attributes:
        create_revision: the revision at which the key came into existence the last time.
        mod_revision: the revision that changed it last.
        version: the number of puts since the key came into existence, including the first.
        lease: the id of the lease that it is attached to; None: of none. A key that was put at level 1
            may name any number, which means nothing.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int | None = None


def pack(value: bytes, create_revision: int, mod_revision: int, version: int, lease: int | None) -> bytes:
    """The record of a key-value; the numbers are from 0 to 2**63-1."""
    head = _HEAD.pack(create_revision, mod_revision, version, _NO_LEASE if lease is None else lease)
    return head + value


def unpack(key: bytes, record: bytes) -> KeyValue:
    """The key-value that is kept as this record under this key."""
    return KeyValue(*fields_of(key, record))


def fields_of(key: bytes, record: bytes) -> list[Any]:
    """The fields of that key-value, in their order."""
    create_revision, mod_revision, version, lease = _HEAD.unpack_from(record)
    return [
        key,
        record[HEAD_BYTES:],
        create_revision,
        mod_revision,
        version,
        None if lease == _NO_LEASE else lease,
    ]


#: Create revision, mod revision and version of a record, which a put goes on from.
revisions_and_version_of: Callable[[bytes], tuple[Any, ...]] = _REVISIONS_AND_VERSION.unpack_from


#: The mod revision of a record as 8 bytes, which are in the order of the numbers.
mod_bytes_of = itemgetter(slice(8, 16))


def bytes_of_revision(revision: int) -> bytes:
    """A revision in the form of `mod_bytes_of`."""
    return revision.to_bytes(8, "big")


def mod_revision_of(record: bytes) -> int:
    """The mod revision of a record, or the revision of a tombstone."""
    return int.from_bytes(record[8:16], "big")


def lease_of(record: bytes) -> int | None:
    """The lease that a record names."""
    lease = record[24:32]
    return None if lease == _NO_LEASE_BYTES else int.from_bytes(lease, "big")


def tombstone(revision: int) -> bytes:
    """The record of a key that this revision deleted."""
    return pack(b"", 0, revision, 0, None)


def is_tombstone(record: bytes) -> bool:
    """Whether the record says that its revision deleted the key."""
    return record[16:24] == NO_VERSION


def size_of(key: bytes, record: bytes) -> int:
    """The bytes of key and value."""
    return len(key) + len(record) - HEAD_BYTES


def digest_of(key: bytes, record: bytes) -> int:
    """The 128-bit digest of a key-value, of which the state hash is made."""
    # The key's length stands before it, so that no other key and value have the same bytes.
    parts = (record[:HEAD_BYTES], _LENGTH.pack(len(key)), key, record[HEAD_BYTES:])
    # One call for all: to begin takes longer than to hash a small value, and to copy a large one is nothing.
    return int.from_bytes(blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest(), "big")
