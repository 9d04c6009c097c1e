"""A damaged log made good from the stopped directories of the other members, or refused.

Entry by entry, as in Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018): an
entry that is damaged here is taken from wherever it is intact, once it is known which entry it was.

- An intact entry lies behind the damage. By Log Matching (Raft paper, section 5.3) any log that has it has
  before it just the entries that were lost here (`salvage.py`). The last term and vote are behind it as
  well.
- The end is damaged: what was lost is not known, and matters as far as a quorum committed it. Let F be the
  last such entry, and let each quorum have a member whose end is intact. One of these has F, durable since
  the term that committed it. A log at least as up-to-date as all of theirs, by last term and then by length,
  has F for the reason for which whoever is elected has it (section 5.4: Leader Completeness; within one
  term, Log Matching). The most up-to-date log there is, which may be this one's own beginning, becomes this
  log.
- A term or a vote is lost with the end. Who asked for a vote had his own term durable (`durable_campaigns`),
  and who won had a quorum's: no term that this member helped to win is above the largest one found. It goes
  on in that term with a vote for itself: there it votes for nobody else, and begins no term but a later one.

Undecidable: a term in which votes were asked for in vain, and which all who knew it have lost; nobody counts
those votes any more, since all have been stopped. Whether a directory was copied before this member had
stopped: what was agreed on since would be missed. And zeros at the end look as if nothing had been there.

The new log is built beside the old one, which is kept whole; each step of the exchange is durable before the
next.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.raft.confchange import all_voters, apply_change, decode_conf_change
from raftkv_trio.raft.quorum import VoteResult, joint_vote
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState
from raftkv_trio.storage.disk import Disk
from raftkv_trio.storage.node_storage import Identity, read_identity
from raftkv_trio.storage.salvage import Pieces, Salvage
from raftkv_trio.storage.snapshot import SnapshotId, SnapshotMeta, decode_meta, read_parts
from raftkv_trio.storage.wal import begin_log, open_log

_UNFINISHED, _FINISHED = "wal.mending", "wal.mended"
_BATCH_BYTES = 1024 * 1024


class Mended(NamedTuple):
    """What a log is to hold."""

    hard_state: HardState
    base: SnapshotMeta
    entries: Sequence[Entry]


def mend(
    disk: Disk, path: Path, others: Sequence[Path], *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
) -> list[str]:
    """Make good the log in `path`, from those in `others`; all are held by `hold_directory`.

    Returns a sentence on what was done. Raises ConfigError where it cannot be known what was lost, and
    CorruptLog where an identity does not verify: then nothing is changed; OSError, StorageError: then it may
    be done again.
    """
    if finish_mend(disk, path):
        return [f"ended the repair of {path / 'wal'} that was cut short"]
    pieces = Pieces()
    own, *rest = [Salvage(each, read_identity(disk, each)) for each in (path, *others)]
    _check_identities(own, rest)
    try:
        for salvage in (own, *rest):
            salvage.read(disk, pieces)
        mended = _decide(disk, own, rest, pieces)
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be made good: {error}") from error
    _build(disk, path, own.identity, mended, segment_bytes)
    _set_aside(disk, path)
    finish_mend(disk, path)
    return [_sentence(path, own, mended)]


def _check_identities(own: Salvage, rest: Sequence[Salvage]) -> None:
    seen = {own.identity.node_id: own}
    for other in rest:
        if other.identity.cluster_id != own.identity.cluster_id:
            raise ConfigError(f"{other.path} is of another cluster than {own.path}")
        if (same := seen.setdefault(other.identity.node_id, other)) is not other:
            raise ConfigError(f"{same.path} and {other.path} are both of node {other.identity.node_id}")


# ---------------------------------------------------------------- what the log is to hold


def _decide(disk: Disk, own: Salvage, rest: Sequence[Salvage], pieces: Pieces) -> Mended:
    """Raises ConfigError where that cannot be known."""
    if own.is_last_known:
        base, entries = _run(disk, own, own.last, pieces)
        _check_committed([own], base, entries)
        return Mended(own.hard_state, base, entries)
    needed = max([other.last for other in rest if other.is_last_known], default=own.snapshot)
    candidates = sorted({s.last for s in (own, *rest) if s.last >= needed}, reverse=True)
    for last in candidates:
        try:
            base, entries = _run(disk, own, last, pieces)
        except ConfigError:
            if last == candidates[-1]:
                raise
        else:
            break
    _check_quorums(own, rest, _configurations(base.conf_state, entries))
    _check_committed((own, *rest), base, entries)
    commit = max(own.commit_index, base.index)
    if own.is_hard_state_known and last.term <= own.hard_state.term:
        return Mended(own.hard_state._replace(commit=commit), base, entries)
    term = max([s.term for s in (own, *rest)])
    return Mended(HardState(term, own.identity.node_id, commit), base, entries)


def _check_committed(salvages: Sequence[Salvage], base: SnapshotMeta, entries: Sequence[Entry]) -> None:
    last_index = entries[-1].index if entries else base.index
    committed = max([salvage.commit_index for salvage in salvages])
    if committed > last_index:
        raise ConfigError(
            f"entries up to {committed} are committed, and those from {last_index + 1} on are lost"
        )


def _run(disk: Disk, own: Salvage, last: SnapshotId, pieces: Pieces) -> tuple[SnapshotMeta, list[Entry]]:
    """A snapshot that is whole, and the entries behind it up to `last`."""
    base = _whole_snapshot(disk, own.path / "snap" / own.snapshot.file_name)
    return base, pieces.run(base.id, last)


def _whole_snapshot(disk: Disk, file: Path) -> SnapshotMeta:
    """What a snapshot's file says of itself, once all of it has verified."""
    try:
        parts = read_parts(disk, file)
        meta = decode_meta(file, next(parts))
        for _ in parts:
            pass
    except (CorruptLog, OSError) as error:
        raise ConfigError(f"its snapshot {file.name} is damaged or missing") from error
    return meta


def _configurations(conf: ConfState, entries: Sequence[Entry]) -> Iterator[ConfState]:
    """Those that a log passes through, in order."""
    yield conf
    for entry in entries:
        if entry.type is not EntryType.NORMAL:
            conf = apply_change(conf, decode_conf_change(entry)).conf_state
            yield conf


def _check_quorums(own: Salvage, rest: Sequence[Salvage], configurations: Iterator[ConfState]) -> None:
    """Every quorum must have a member whose log's end is known, and every voter now must be here."""
    known = {other.identity.node_id for other in rest if other.is_last_known}
    conf = ConfState()
    for conf in configurations:
        unknown = set(all_voters(conf)) - known
        if joint_vote(conf.voters, conf.voters_outgoing, dict.fromkeys(unknown, True)) is VoteResult.WON:
            _refuse(own, rest, unknown)
    missing = set(all_voters(conf)) - {s.identity.node_id for s in (own, *rest)}
    if missing:
        _refuse(own, rest, missing)


def _refuse(own: Salvage, rest: Sequence[Salvage], unknown: Collection[int]) -> None:
    missing = sorted(set(unknown) - {s.identity.node_id for s in (own, *rest)})
    if missing:
        nodes = f"node {missing[0]}" if len(missing) == 1 else f"nodes {', '.join(map(str, missing))}"
        raise ConfigError(
            f"the end of its log is lost, and the directory of {nodes} is needed to know what it was"
        )
    raise ConfigError(
        f"the ends of the logs of nodes {', '.join(map(str, sorted(unknown)))} are lost, and what they alone"
        " had may have been acknowledged"
    )


# ---------------------------------------------------------------- the new log in place of the old one


def _build(disk: Disk, path: Path, identity: Identity, mended: Mended, segment_bytes: int) -> None:
    """Build the log beside the old one; durable, and under its second name, when this returns."""
    unfinished, finished = path / _UNFINISHED, path / _FINISHED
    for leftover in (unfinished, finished):
        if disk.exists(leftover):
            for name in disk.list_directory(leftover):
                disk.unlink(leftover / name)
            disk.sync_directory(leftover)
    disk.make_directory(unfinished)
    begin_log(disk, unfinished, identity.encode(), mended.base.id, segment_bytes=segment_bytes)
    log = open_log(disk, unfinished, identity.encode(), segment_bytes=segment_bytes)
    try:
        log.append(mended.hard_state, ())
        for batch in _batches(mended.entries):
            log.append(mended.hard_state, batch)
    finally:
        log.close(clean=False)
    disk.rename(unfinished, finished)
    disk.sync_directory(path)


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    batch: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        batch.append(entry)
        size_bytes += len(entry.data)
        if size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _set_aside(disk: Disk, path: Path) -> None:
    if disk.exists(path / "wal"):
        number = 1
        while disk.exists(path / f"wal.damaged-{number}"):
            number += 1
        disk.rename(path / "wal", path / f"wal.damaged-{number}")
        disk.sync_directory(path)


def finish_mend(disk: Disk, path: Path) -> bool:
    """Give a log that `mend` has built its name, where the old one is out of the way; whether it did.

    Raises OSError.
    """
    log, finished = path / "wal", path / _FINISHED
    is_free = not disk.exists(log) or not disk.list_directory(log)
    if not is_free or not disk.exists(finished) or not disk.list_directory(finished):
        return False
    disk.rename(finished, log)
    disk.sync_directory(path)
    return True


def _sentence(path: Path, own: Salvage, mended: Mended) -> str:
    entries = mended.entries
    held = f"entries {entries[0].index} to {entries[-1].index}" if entries else "no entries"
    return f"made the log of {path} anew, with {held}; the damaged one is kept beside it"
