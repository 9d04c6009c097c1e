"""`raftkv-trio member set-addresses`: all members have moved, and none finds another where it was.

Addresses are replicated: they are in the newest snapshot, and in the changes of members behind it in the log.
If too many members have moved at once, no quorum is left that could agree on new addresses. So they are
replaced in the stopped directory of every member, in the same way everywhere. Nothing else changes, in the
snapshot or in an entry: afterwards all logs agree again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import ConfigError
from raftkv_trio.offline.inspection import hold_directory
from raftkv_trio.offline.replace_log import build_log, finish_swap, swap_logs
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange, Membership
from raftkv_trio.payload.proposal import decode_proposal, encode_proposal
from raftkv_trio.raft.confchange import conf_change_entry, decode_conf_change
from raftkv_trio.raft.types import Entry, EntryType
from raftkv_trio.storage import BOOTSTRAP_INDEX, Disk, OsDisk, SnapshotMeta, is_new
from raftkv_trio.storage.data_directory import check_writers
from raftkv_trio.storage.small_files import read_identity
from raftkv_trio.storage.snapshot_directory import SnapshotDirectory
from raftkv_trio.storage.wal import WriteAheadLog, open_log

Addresses = Mapping[int, PeerAddress]


class Moved(NamedTuple):
    """What was done in a member's directory.

    Attributes:
        node_id: of the directory's own node.
        members: the addresses of all members, as they are now.
        unknown: the ids that were given and are of no member here: this one may lag behind the others.
        kept: where the log as it was before is kept; None if nothing in it had to change.
    """

    node_id: int
    members: Addresses
    unknown: Sequence[int]
    kept: Path | None


def set_addresses(
    directory: Path,
    addresses: Addresses,
    *,
    disk: Disk | None = None,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> Moved:
    """Replace addresses of members in the data directory of a stopped member.

    If it is interrupted, at any moment, it can be done again.

    Raises:
        ConfigError: the directory is in use, holds no member, or is writable for every user, or these members
            cannot have these addresses.
        StorageError, OSError: the directory cannot be read or written.
    """
    disk = disk or OsDisk()
    if is_new(disk, directory):
        raise ConfigError(f"{directory} is no data directory of a node that has run")
    with hold_directory(disk, directory):
        check_writers(disk, directory)
        finish_swap(disk, directory)  # what an earlier call may have left between two renames
        identity = read_identity(disk, directory)
        with _opened(disk, directory / "wal", identity.encode(), segment_bytes) as log:
            entries, hard_state = log.entries, log.hard_state
            snapshots = SnapshotDirectory(disk, directory / "snap", log.snapshot)
        meta = snapshots.newest
        before = Envelope.decode(snapshots.read_head(meta.id)[1])
        after = _members_after(directory, meta, before, entries, addresses)
        moved = [_with_addresses(entry, addresses) for entry in entries]
        kept = None
        if moved != entries:
            build_log(disk, directory, identity, meta.id, hard_state, moved, segment_bytes=segment_bytes)
            kept = swap_logs(disk, directory)
        if (of_snapshot := _moved(before, addresses)) != before:
            _write_snapshot(disk, snapshots, meta, of_snapshot)
    unknown = sorted(addresses.keys() - after.members.keys())
    return Moved(identity.node_id, after.addresses, unknown, kept)


@contextmanager
def _opened(disk: Disk, path: Path, identity: bytes, segment_bytes: int) -> Iterator[WriteAheadLog]:
    """A log, opened as at a start: verified, and refused if any of it is damaged."""
    log = open_log(disk, path, identity, segment_bytes=segment_bytes)
    try:
        yield log
    finally:
        log.close(clean=True)


def _members_after(
    directory: Path, meta: SnapshotMeta, envelope: Envelope, entries: Sequence[Entry], addresses: Addresses
) -> Envelope:
    """The members after all entries; raises ConfigError if they cannot have these addresses."""
    if meta.index < BOOTSTRAP_INDEX:
        raise ConfigError(f"{directory} is of a node that was still to join, and knows no members")
    membership = Membership(envelope, meta.conf_state)
    for entry in entries:
        if entry.type is not EntryType.NORMAL:
            membership.apply(entry)
    # The log of a member that lags may lack the addition of another one, or have a removal that the others
    # replaced. The same addresses are given everywhere, and the changes that it lacks will come with them.
    known = {i: address for i, address in addresses.items() if i in membership.envelope.members}
    updates = [
        MemberChange(Action.UPDATE, node_id, address) for node_id, address in (known or addresses).items()
    ]
    if (objection := membership.objection(ChangeRequest(tuple(updates)))) is not None:
        raise ConfigError(f"{directory}: {objection}")
    return _moved(membership.envelope, addresses)


def _moved(envelope: Envelope, addresses: Addresses) -> Envelope:
    members = {
        node_id: member._replace(address=addresses.get(node_id, member.address))
        for node_id, member in envelope.members.items()
    }
    return replace(envelope, members=members)


def _with_addresses(entry: Entry, addresses: Addresses) -> Entry:
    """The entry; if it gives one of these members an address, with the new one."""
    if entry.type is EntryType.NORMAL:
        return entry
    conf_change = decode_conf_change(entry).as_v2()
    if not conf_change.context:  # the end of a joint configuration names nobody
        return entry
    proposal_id, data = decode_proposal(conf_change.context)
    request = ChangeRequest.decode(data)
    changes = tuple([_with_address(change, addresses) for change in request.changes])
    if changes == request.changes:
        return entry
    context = encode_proposal(proposal_id, request._replace(changes=changes).encode())
    moved = conf_change_entry(conf_change._replace(context=context))
    return replace(entry, type=moved.type, data=moved.data)


def _with_address(change: MemberChange, addresses: Addresses) -> MemberChange:
    if change.address is None:  # it promotes or removes
        return change
    return change._replace(address=addresses.get(change.node_id, change.address))


def _write_snapshot(disk: Disk, snapshots: SnapshotDirectory, meta: SnapshotMeta, envelope: Envelope) -> None:
    """Write the newest snapshot again, under the same name; a crash leaves the old one or the new one."""
    file = snapshots.begin(meta, envelope.encode())
    try:
        for chunk in snapshots.chunks(meta.id):
            file.write([chunk])
        file.finish()
    finally:
        if file.is_open:
            file.abandon()
