"""The small files of a directory made good where they do not verify: what they said is said elsewhere too.

identity   every segment of the log begins with it
peers      the other members' directories say whose they are, and which they know
origin     is the same for all members

Each is replaced as a whole, by one rename.
"""

from collections.abc import Sequence
from pathlib import Path

import cbor2

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.segment_scan import identity_in
from raftkv_trio.storage import Disk
from raftkv_trio.storage.disk import write_whole_file
from raftkv_trio.storage.segments import list_segments, read_segment
from raftkv_trio.storage.small_files import read_identity, read_origin, read_peers, seal


def rebuild_small_files(disk: Disk, path: Path, others: Sequence[Path]) -> list[str]:
    """Make good what does not verify, or is missing, of `identity`, `peers` and `origin`; sentences on it.

    Raises ConfigError where that cannot be known, and CorruptLog where a file of another directory does not
    verify: then that file is not changed; OSError.
    """
    done = []
    for name, read, find in (
        ("identity", read_identity, _find_identity),
        ("peers", read_peers, _find_peers),
        ("origin", read_origin, _find_origin),
    ):
        try:
            read(disk, path)
        except (CorruptLog, FileNotFoundError):
            write_whole_file(disk, path / name, seal(find(disk, path, others)))
            done.append(f"made {path / name} anew")
    return done


def _find_identity(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    """What the first record of the first segment says whose first record verifies."""
    directory = path / "wal"
    for name in list_segments(disk, directory) if disk.exists(directory) else ():
        identity = identity_in(read_segment(disk, directory / str(name)), name.number)
        if identity is not None:
            return identity
    raise ConfigError(f"{path / 'identity'} cannot be made good: no segment of its log says what it was")


def _find_peers(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    """The directory ids that the other members have, or know; raises ConfigError where these contradict."""
    own = read_identity(disk, path)
    found = {own.node_id: own.directory_id}
    for other in others:
        identity = read_identity(disk, other)
        if identity.cluster_id != own.cluster_id:
            raise ConfigError(f"{other} is of another cluster than {path}")
        for node_id, known in [(identity.node_id, identity.directory_id), *read_peers(disk, other).items()]:
            if found.setdefault(node_id, known) != known:
                raise ConfigError(f"{other} knows another directory of node {node_id} than the others")
    del found[own.node_id]
    return cbor2.dumps(found)


def _find_origin(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    own = read_identity(disk, path)
    for other in others:
        origin = read_origin(disk, other)
        if origin is not None and read_identity(disk, other).cluster_id == own.cluster_id:
            return cbor2.dumps(origin)
    raise ConfigError(f"{path / 'origin'} cannot be made good: no other directory has it")
