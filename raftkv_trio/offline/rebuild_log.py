"""Rebuilds a damaged log from the stopped directories of the other members, or refuses to.

Entry by entry, as in Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018): an
entry that is damaged here is taken from any log in which it is intact, once it is known which entry it was.

- An intact entry lies behind the damage. By Log Matching (Raft paper, section 5.3) any log that has this
  entry has before it exactly the entries that were lost here (`salvage.py`). The last term and vote are
  behind the damage as well. If such an entry is intact nowhere, this log's end is taken for lost.
- The end is damaged. What was lost is not known; it matters as far as a quorum committed it. Let F be the
  last entry that was, and let each quorum have a member whose end is intact. One of these has F, durable
  since the term that committed it. A log at least as up-to-date as all of theirs, by last term and then by
  length, has F for the reason for which an elected leader has it (section 5.4: Leader Completeness; within
  one term, Log Matching). The most up-to-date log there is, which may be this one's own beginning, becomes
  this log.
- A term or a vote is lost with the end. A candidate has its own term durable before it asks for votes
  (`durable_campaigns`), and a leader was voted for by a quorum: so no term that this member helped to win is
  above the largest term found in any log. It goes on in that term with a vote for itself: there it votes for
  no other, and it campaigns only in a later term.

What cannot be decided: a term in which votes were asked for in vain, and which all who knew of it have lost;
nobody counts those votes any more, since all members have been stopped. Whether a directory was copied before
this member had stopped: what was agreed on since then would be missed. And zeros at the end look as if
nothing had been written there.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.replace_log import build_log, swap_logs, take_snapshot
from raftkv_trio.offline.salvage import Pieces, Salvage
from raftkv_trio.raft.confchange import all_voters, apply_change, decode_conf_change
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.quorum import VoteResult, joint_vote
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState
from raftkv_trio.storage import Disk, SnapshotId, SnapshotMeta, verify_snapshot
from raftkv_trio.storage.small_files import read_identity


class NewLog(NamedTuple):
    """What the rebuilt log is to hold: a snapshot, from any of the directories, and all entries behind it."""

    base: SnapshotMeta
    file: Path
    entries: Sequence[Entry]

    @property
    def last(self) -> SnapshotId:
        """The last entry, by term and index."""
        if not self.entries:
            return self.base.id
        return SnapshotId(self.entries[-1].term, self.entries[-1].index)


def rebuild_log(
    disk: Disk, path: Path, others: Sequence[Path], *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
) -> list[str]:
    """Rebuild the log in `path` from the logs in `others`; all are held by `hold_directory`.

    Returns sentences on what was done.

    Raises:
        ConfigError: it cannot be known what was lost; nothing was changed.
        CorruptLog: an identity does not verify; nothing was changed.
        OSError, StorageError: the disk failed; the rebuild can be done again.
    """
    # Everything is read and decided before anything is written.
    pieces = Pieces()
    own, *rest = [Salvage(each, read_identity(disk, each)) for each in (path, *others)]
    _check_identities(own, rest)
    try:
        for salvage in (own, *rest):
            salvage.read(disk, pieces)
        hard_state, log = _decide(disk, own, rest, pieces)
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be rebuilt: {error}") from error
    # The snapshot first, since the new log continues it. Should a crash come before the logs are swapped, it
    # is a file that the old log does not need.
    done = take_snapshot(disk, path, log.file)
    build_log(disk, path, own.identity, log.base.id, hard_state, log.entries, segment_bytes=segment_bytes)
    kept = swap_logs(disk, path)
    held = f"entries {log.base.index + 1} to {log.last.index}" if log.entries else "no entries"
    return [
        *done,
        f"rebuilt {path / 'wal'}: the snapshot at index {log.base.index}, and {held} behind it;"
        f" the damaged one is kept as {kept}",
    ]


def _check_identities(own: Salvage, rest: Sequence[Salvage]) -> None:
    """Raises ConfigError unless these are directories of different members of one cluster."""
    # One member twice, as two copies of one directory, would count as two members in a quorum.
    seen = {own.identity.node_id: own}
    for other in rest:
        if other.identity.cluster_id != own.identity.cluster_id:
            raise ConfigError(f"{other.path} is of another cluster than {own.path}")
        if (same := seen.setdefault(other.identity.node_id, other)) is not other:
            raise ConfigError(f"{same.path} and {other.path} are both of node {other.identity.node_id}")


# ---------------------------------------------------------------- what the log is to hold


def _decide(disk: Disk, own: Salvage, rest: Sequence[Salvage], pieces: Pieces) -> tuple[HardState, NewLog]:
    """Term, vote, commit index and log that this member goes on with; raises ConfigError if unknown."""
    files = _snapshot_files(disk, own, rest)
    # What this member acknowledged it must have again. So its own log comes first, if its end is known: then
    # it is certain which entries were in it.
    if own.is_last_known:
        try:
            log = _own_log(disk, own, files, pieces)
        except ConfigError as error:
            # An entry that this log had is intact nowhere. It may never have been committed: the others' ends
            # can say so. If they cannot, the first error tells more: which entry is lost.
            try:
                return _agreed(disk, own, rest, files, pieces)
            except ConfigError:
                raise error from None
        # Its own log, so its own commit index: what others know beyond that, a leader will tell it.
        return _hard_state(own, rest, log, _committed([own], log)), log
    return _agreed(disk, own, rest, files, pieces)


def _agreed(
    disk: Disk, own: Salvage, rest: Sequence[Salvage], files: Sequence[Path], pieces: Pieces
) -> tuple[HardState, NewLog]:
    """A log that has all that any quorum committed, and the largest commit index that any member knew."""
    log = _agreed_log(disk, own, rest, files, pieces)
    # The commit index of all: a node with a conf change in its log must know that the one before it is
    # committed (`raft/reconfiguration.py`), and this log may be another member's, which holds both.
    return _hard_state(own, rest, log, _committed((own, *rest), log)), log


def _own_log(disk: Disk, own: Salvage, files: Sequence[Path], pieces: Pieces) -> NewLog:
    """The log that this one was; if entries of it are lost, a snapshot that covers them."""
    try:
        return _log_to(disk, own.last, files, pieces)
    except ConfigError:
        # A snapshot holds committed entries only, and covers all that this log had if its index is larger. A
        # leader would send it to a follower in the same place.
        newest = max(map(_id, files), key=lambda snapshot: snapshot.index, default=own.last)
        if newest.index <= own.last.index:
            raise
        return _log_to(disk, newest, files, pieces)


def _agreed_log(
    disk: Disk, own: Salvage, rest: Sequence[Salvage], files: Sequence[Path], pieces: Pieces
) -> NewLog:
    """A log that has all that a quorum can have committed."""
    log = _most_up_to_date(disk, own, rest, files, pieces)
    _check_quorums(own, rest, _configurations(log))
    return log


def _most_up_to_date(
    disk: Disk, own: Salvage, rest: Sequence[Salvage], files: Sequence[Path], pieces: Pieces
) -> NewLog:
    """The most up-to-date log that can be put together; this log's own beginning is a candidate too.

    It must be at least as up-to-date as each log whose end is known, as a candidate's must be for a vote.
    """
    # A log whose end is lost may win as far as it is intact: more entries than were committed do no harm.
    needed = max([other.last for other in rest if other.is_last_known], default=own.snapshot)
    candidates = sorted({salvage.last for salvage in (own, *rest) if salvage.last >= needed})
    reasons = []
    for last in reversed(candidates):
        try:
            return _log_to(disk, last, files, pieces)
        except ConfigError as error:
            reasons.append(error)
    raise reasons[0]


def _log_to(disk: Disk, last: SnapshotId, files: Sequence[Path], pieces: Pieces) -> NewLog:
    """The log that ends with `last`, behind the best of the snapshots from which on it is known."""
    reasons = []
    # A better snapshot may be damaged, or entries right behind it intact nowhere. An older one serves as well
    # if the entries from there on are left.
    for file in reversed(files):
        if _id(file).index <= last.index:
            try:
                entries = pieces.run(_id(file), last)
                return NewLog(_whole_snapshot(disk, file), file, entries)
            except ConfigError as error:
                reasons.append(error)
    raise reasons[0] if reasons else ConfigError("no snapshot that its log could continue is left")


def _snapshot_files(disk: Disk, own: Salvage, rest: Sequence[Salvage]) -> list[Path]:
    """The files of all directories, the best last: the one that this log continues, its own, the newest."""
    files = [
        salvage.path / "snap" / name
        for salvage in (own, *rest)
        if disk.exists(salvage.path / "snap")
        for name in disk.list_directory(salvage.path / "snap")
        if (snapshot := SnapshotId.parse(name)) and name == snapshot.file_name
    ]
    # The log's own snapshot leaves everything as it was. Its own others need no copy. Of the rest, the newest
    # needs the fewest entries.
    return sorted(
        files, key=lambda file: (_id(file) == own.snapshot, file.parent.parent == own.path, _id(file).index)
    )


def _id(file: Path) -> SnapshotId:
    snapshot = SnapshotId.parse(file.name)
    assert snapshot is not None
    return snapshot


def _whole_snapshot(disk: Disk, file: Path) -> SnapshotMeta:
    """The header of a snapshot's file, after all of it has verified."""
    # To its end: a log that continues a damaged snapshot would be no better than the one that it replaces.
    try:
        return verify_snapshot(disk, file).meta
    except (CorruptLog, OSError) as error:
        raise ConfigError(f"its snapshot {file.name} is damaged") from error


def _hard_state(own: Salvage, rest: Sequence[Salvage], log: NewLog, commit: int) -> HardState:
    """The term and the vote that this member may go on with."""
    term, vote, _ = own.hard_state
    # With damage behind the last record, a later term and a vote in it may be lost. A vote for itself in the
    # largest term that anyone knows keeps it from voting twice in that one, and in each before it.
    if not own.is_hard_state_known:
        return HardState(max([s.term for s in (own, *rest)]), own.identity.node_id, commit)
    # The entries of another member may be of a later term, and a log's last term is never above the current
    # one. This member's own term is known, so in that later term it has voted for nobody.
    if log.last.term > term:
        return HardState(log.last.term, None, commit)
    return HardState(term, vote, commit)


# ---------------------------------------------------------------- whether that is enough


def _committed(salvages: Sequence[Salvage], log: NewLog) -> int:
    """The largest index that these know to be committed; raises ConfigError if the log ends before it."""
    committed = max([salvage.commit_index for salvage in salvages])
    if committed > log.last.index:
        raise ConfigError(
            f"entries up to {committed} are committed, and those from {log.last.index + 1} on are lost"
        )
    return max(committed, log.base.index)  # a snapshot holds nothing that is not committed


def _configurations(log: NewLog) -> Iterator[ConfState]:
    """The configurations that a log passes through, in order."""
    conf = log.base.conf_state
    yield conf
    for entry in log.entries:
        # Committed or not: one that no log here knows to be committed may be, and then its quorums committed
        # what came behind it.
        if entry.type is not EntryType.NORMAL:
            with suppress(InvalidConfiguration):  # such a change changes nothing, on any node
                conf = apply_change(conf, decode_conf_change(entry)).conf_state
            yield conf


def _check_quorums(own: Salvage, rest: Sequence[Salvage], configurations: Iterator[ConfState]) -> None:
    """Check that nothing that was committed can be missing; raises ConfigError if it can."""
    known = {other.identity.node_id for other in rest if other.is_last_known}
    conf = ConfState()
    for conf in configurations:
        # Each entry was committed by a quorum of the configuration of its day. If the members whose ends are
        # not known are a quorum by themselves, they may have committed something that no known end has.
        unknown = set(all_voters(conf)) - known
        if joint_vote(conf.voters, conf.voters_outgoing, dict.fromkeys(unknown, True)) is VoteResult.WON:
            _refuse(own, rest, unknown)
    # All voters of now must be here, damaged or not: the largest term is to be found among all of them, and a
    # voter that still runs could be electing a leader.
    missing = set(all_voters(conf)) - {s.identity.node_id for s in (own, *rest)}
    if missing:
        _refuse(own, rest, missing)


def _refuse(own: Salvage, rest: Sequence[Salvage], unknown: Collection[int]) -> None:
    missing = sorted(set(unknown) - {s.identity.node_id for s in (own, *rest)})
    if missing:
        raise ConfigError(
            "the end of its log is lost, and only with the directories of all members can it be known what"
            f" that was: that of {_nodes(missing)} is missing"
        )
    raise ConfigError(
        f"the end of the log of {_nodes(unknown)} is lost, and what no other log holds may have been"
        " acknowledged"
    )


def _nodes(node_ids: Collection[int]) -> str:
    return ("node " if len(node_ids) == 1 else "nodes ") + " and ".join(map(str, sorted(node_ids)))
