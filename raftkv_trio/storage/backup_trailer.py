"""What follows a backup that is streamed to etcd's clients: `etcdctl snapshot save` insists on it.

Zeros up to a multiple of 512 bytes, then the SHA-256 hash of everything before. etcd's own backups end so,
since its database has pages; a snapshot file of ours does not need it, and has a hash of its own.
"""

import hashlib
from hashlib import sha256

_ALIGNMENT = 512


def trailer_of(size_bytes: int, hash_so_far: "hashlib._Hash") -> bytes:
    """The trailer of a backup of this size.

    Args:
        hash_so_far: of the backup; it goes on over the zeros.
    """
    zeros = bytes(-size_bytes % _ALIGNMENT)
    hash_so_far.update(zeros)
    return zeros + hash_so_far.digest()


class TrailerReader:
    """Verifies a trailer, if there is one."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._size_bytes = 0
        self._found = bytearray()

    def passed(self, data: bytes | memoryview) -> None:
        """Take note of a part of the backup itself."""
        self._hash.update(data)
        self._size_bytes += len(data)

    def takes(self, data: bytes | bytearray) -> bool:
        """Take what follows the backup; False if that is too long to be a trailer."""
        self._found += data
        return len(self._found) < _ALIGNMENT + self._hash.digest_size

    def is_right(self) -> bool:
        """Whether what followed is a trailer, or nothing."""
        return not self._found or self._found == trailer_of(self._size_bytes, self._hash)
