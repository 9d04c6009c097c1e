"""The small files of a data directory: each is `crc u32`, big endian, then CBOR, and is replaced as a whole.

identity   [format version, cluster id, node id, directory id]
peers      {node id: key}, by what each other member's directory is known (`peers/proofs.py`)
origin     the hash of the backup that the directory was restored from, if it was
removed    the index at which the cluster removed this node, if it did
auth-reset  the revision of users and roles at which an operator wants them not to be checked any more
lost       the index up to which this node had acknowledged entries, if some of them were found to be lost
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import cbor2

from raftkv_trio.errors import ConfigError, CorruptLog, DecodeError, remedy
from raftkv_trio.payload.cbor import decode_payload
from raftkv_trio.storage.disk import Disk, write_whole_file

FORMAT_VERSION = 1
AUTH_RESET = "auth-reset"
# In front of the contents and not behind them: its place is known whatever the length.
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose data directory this is."""

    cluster_id: int
    node_id: int
    # A secret: the keys by which the node proves who it is are made of it.
    directory_id: bytes = field(repr=False)
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """The content of `identity`, with which every segment of the log begins, too."""
        return cbor2.dumps([self.format_version, self.cluster_id, self.node_id, self.directory_id])


def seal(content: bytes) -> bytes:
    """The bytes of a file that holds this CBOR: a CRC, then the CBOR."""
    return _CRC.pack(crc32(content)) + content


def write_sealed(disk: Disk, path: Path, value: object) -> None:
    """Make `path` hold `value`, durably, or leave it as it was; raises OSError."""
    # Replaced and never changed in place: a crash must not leave half of the new contents over the old ones.
    write_whole_file(disk, path, seal(cbor2.dumps(value)))


def read_sealed(disk: Disk, path: Path) -> Any:
    """What `write_sealed` wrote; raises CorruptLog, OSError."""
    file = disk.open(path, read_only=True)
    try:
        data = file.read_at(0, file.size())
    finally:
        file.close()
    content = data[_CRC.size :]
    # Such a file is replaced by one rename, so a crash never leaves half of it: if it does not verify it was
    # damaged, and there is no part of it to go on with.
    if seal(content) != data:
        raise CorruptLog.at(path, 0)
    try:
        # In `peers` the ids are keys, and this node has written them.
        return decode_payload(content, integer_keys=True)
    except DecodeError as error:
        raise CorruptLog.at(path, 0) from error


def read_identity(disk: Disk, path: Path) -> Identity:
    """Whose directory `path` is; raises ConfigError if its format is newer, CorruptLog, OSError."""
    file = path / "identity"
    match read_sealed(disk, file):
        # The version is the first item in every format, so that an older program can tell a newer one.
        case [int(version), *_] if version > FORMAT_VERSION:
            raise ConfigError(
                f"{path} has format {version}, and this version of raftkv-trio reads formats up to"
                f" {FORMAT_VERSION}: use a newer version"
            )
        case [int(), int(cluster_id), int(node_id), bytes(directory_id)]:
            return Identity(cluster_id=cluster_id, node_id=node_id, directory_id=directory_id)
    raise CorruptLog.at(file, 0)


def write_identity(disk: Disk, path: Path, identity: Identity) -> None:
    """Say whose directory `path` is; raises OSError."""
    write_whole_file(disk, path / "identity", seal(identity.encode()))


def read_peers(disk: Disk, path: Path) -> dict[int, bytes]:
    """By what each other member's directory is known; raises CorruptLog, OSError."""
    file = path / "peers"
    # The file is written when the directory is made, though it is empty then. So its loss is noticed, and is
    # not taken for a node that has met nobody and would trust a member that comes back without its votes.
    if not disk.exists(file):
        raise CorruptLog(
            f"{file} is missing; without it members that lost their votes are not recognized: {remedy(path)}"
        )
    known = read_sealed(disk, file)
    match known:
        # The exact types: True is an int too, and would become the id 1.
        case dict() if all(type(i) is int and type(d) is bytes for i, d in known.items()):
            return known
    raise CorruptLog.at(file, 0)


def write_peers(disk: Disk, path: Path, known: Mapping[int, bytes]) -> None:
    """Record by what the other members' directories are known, all of them; raises OSError."""
    write_sealed(disk, path / "peers", dict(known))


def read_origin(disk: Disk, path: Path) -> bytes | None:
    """The hash of the backup that a directory was restored from, if it was; raises CorruptLog, OSError."""
    # Most directories were not restored, so its absence is no damage. It is needed only to compare the
    # cluster id, which is hashed from it, with the one that the configuration would give.
    file = path / "origin"
    if not disk.exists(file):
        return None
    match read_sealed(disk, file):
        case bytes(origin):
            return origin
    raise CorruptLog.at(file, 0)


def write_origin(disk: Disk, path: Path, origin: bytes) -> None:
    """Record the hash of the backup that a directory is being restored from; raises OSError."""
    write_sealed(disk, path / "origin", origin)


def read_removed(disk: Disk, path: Path) -> int | None:
    """The index at which the cluster removed this node, if it did; raises CorruptLog, OSError."""
    # Missing is the rule. Should it be lost, the node starts, and its peers tell it again.
    return _read_index(disk, path / "removed")


def write_removed(disk: Disk, path: Path, removed_at: int) -> None:
    """Record that the cluster removed this node; raises OSError."""
    write_sealed(disk, path / "removed", removed_at)


def read_lost(disk: Disk, path: Path) -> int | None:
    """Up to where acknowledged entries are known to be lost here, if any are; raises CorruptLog, OSError."""
    return _read_index(disk, path / "lost")


def write_lost(disk: Disk, path: Path, acknowledged: int) -> None:
    """Record that entries up to `acknowledged` were acknowledged, and some are lost; raises OSError."""
    write_sealed(disk, path / "lost", acknowledged)


def read_auth_reset(disk: Disk, path: Path) -> int | None:
    """The auth revision at which authentication is to be disabled, if it is; raises CorruptLog, OSError."""
    return _read_index(disk, path / AUTH_RESET)


def write_auth_reset(disk: Disk, path: Path, revision: int) -> None:
    """Ask the next start to have authentication disabled in the cluster; raises OSError."""
    write_sealed(disk, path / AUTH_RESET, revision)


def remove_auth_reset(disk: Disk, path: Path) -> None:
    """That is settled; raises OSError."""
    if disk.exists(path / AUTH_RESET):
        disk.unlink(path / AUTH_RESET)
        disk.sync_directory(path)


def _read_index(disk: Disk, file: Path) -> int | None:
    if not disk.exists(file):
        return None
    index = read_sealed(disk, file)
    if type(index) is int:
        return index
    raise CorruptLog.at(file, 0)
