"""Rebuilds the small files of a directory that do not verify: their contents stand elsewhere too.

    identity   at the beginning of every segment of the log
    peers      made of the directory ids in the identities of the other members; a key in the `peers` of
               another member is of use to that member alone
    origin     in the `origin` of every other member

Each file is replaced as a whole, by one rename.
"""

from collections.abc import Sequence
from pathlib import Path

import cbor2

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.segment_scan import identity_in
from raftkv_trio.peers.peer_keys import known_key
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.storage import DIRECTORY_ID_BYTES, Disk
from raftkv_trio.storage.disk import write_whole_file
from raftkv_trio.storage.segments import list_segments, read_segment
from raftkv_trio.storage.small_files import read_identity, read_origin, read_peers, seal


def rebuild_small_files(disk: Disk, path: Path, others: Sequence[Path]) -> list[str]:
    """Rebuild `identity`, `peers` and `origin` if they do not verify or are missing.

    Returns sentences on what was done.

    Raises:
        ConfigError: nothing tells what a file held; it is not changed.
        CorruptLog: a file of another directory does not verify; nothing is changed from then on.
        OSError: the disk failed; it can be done again.
    """
    done = []
    # `identity` first: the other two are found by its cluster id.
    for name, read, find in (
        ("identity", read_identity, _find_identity),
        ("peers", read_peers, _find_peers),
        ("origin", read_origin, _find_origin),
    ):
        try:
            read(disk, path)
        except (CorruptLog, FileNotFoundError):
            write_whole_file(disk, path / name, seal(find(disk, path, others)))
            done.append(f"rebuilt {path / name}")
    return done


def _find_identity(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    """The identity in the first record of a segment, the first of them that verifies."""
    # Whether all segments agree is checked when the log is read.
    directory = path / "wal"
    for name in list_segments(disk, directory) if disk.exists(directory) else ():
        identity = identity_in(read_segment(disk, directory / str(name)), name.number)
        if identity is not None:
            return identity
    raise ConfigError(f"{path / 'identity'} cannot be rebuilt: no segment of its log says what it was")


def _find_peers(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    """The keys of the members whose directory ids the other directories have.

    A member whose id none of them has is left out: its key is learnt when this node meets it.

    Raises ConfigError if a member is known by another directory than the one that is there.
    """
    own = read_identity(disk, path)
    # Its own is in it while the others are compared: a member that knows it by another one would refuse it.
    ids = {own.node_id: own.directory_id}
    told = []
    for other in others:
        identity = read_identity(disk, other)
        if identity.cluster_id != own.cluster_id:
            raise ConfigError(f"{other} is of another cluster than {path}")
        if ids.setdefault(identity.node_id, identity.directory_id) != identity.directory_id:
            raise ConfigError(f"{other} is of node {identity.node_id}, as another of the directories is")
        told.append((other, identity.node_id, read_peers(disk, other)))
    # What a directory says of itself comes first. Only version 2 of the peer protocol told ids to others.
    for _, _, known in told:
        for node_id, said in known.items():
            if len(said) == DIRECTORY_ID_BYTES:
                ids.setdefault(node_id, said)
    # Two members know a third one by different keys. So these are not compared with each other: each is
    # compared with the key that the third one's directory gives for that member.
    for other, knower, known in told:
        for node_id, said in known.items():
            if node_id in ids and known_key(said, knower) != key_towards(ids[node_id], knower):
                raise ConfigError(f"{other} knows another directory of node {node_id} than the others")
    del ids[own.node_id]
    return cbor2.dumps({node_id: key_towards(each, own.node_id) for node_id, each in ids.items()})


def _find_origin(disk: Disk, path: Path, others: Sequence[Path]) -> bytes:
    own = read_identity(disk, path)
    for other in others:
        origin = read_origin(disk, other)
        if origin is not None and read_identity(disk, other).cluster_id == own.cluster_id:
            return cbor2.dumps(origin)
    raise ConfigError(f"{path / 'origin'} cannot be rebuilt: no other directory has it")
