"""Bugs planted into the real code, one at a time, to see whether the simulator finds them.

Each is a mutation that somebody could have written, made by replacing a function of the program while a
`with` block lasts. A checker that finds none of them is worth nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from raftkv_trio import driver, log_writer, node, proposals
from raftkv_trio.applier import Applier
from raftkv_trio.errors import NoLeader
from raftkv_trio.log_writer import Append
from raftkv_trio.proposals import Proposal, ProposalTable
from raftkv_trio.raft import election, quorum, raft, reads
from raftkv_trio.raft.log import RaftLog
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.tracker import Tracker
from raftkv_trio.raft.types import Entry, HardState, Message, MessageType, ReadState
from raftkv_trio.reads import ReadRound, ReadRounds
from raftkv_trio.storage import log_reader
from raftkv_trio.storage.record import HEADER_BYTES, Header
from raftkv_trio.storage.wal import WriteAheadLog
from raftkv_trio.wire import Forward, ProposalId


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A mutation: within `plant()` the program has it.

    Attributes:
        does: what the program does wrong, for the reader.
    """

    name: str
    does: str
    plant: Callable[[], AbstractContextManager[None]]


PLANTED: dict[str, PlantedBug] = {}


@contextmanager
def replaced(owner: object, name: str, replacement: object) -> Iterator[None]:
    """Let an attribute of a module or class be something else."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _bug(name: str, does: str, owner: object, attribute: str) -> Callable[[Callable[[Any], object]], None]:
    """Register a bug: the decorated function makes the replacement of `attribute` from the original."""

    def register(make: Callable[[Any], object]) -> None:
        PLANTED[name] = PlantedBug(
            name, does, lambda: replaced(owner, attribute, make(getattr(owner, attribute)))
        )

    return register


# ---------------------------------------------------------------- the disk


@_bug("skip-fsync", "the log is written and not synced", WriteAheadLog, "_sync")
def _(original: Any) -> object:
    return lambda log: None


@_bug("skip-directory-sync", "a new segment's name is not synced", WriteAheadLog, "_cut")
def _(original: Any) -> object:
    class Careless:
        def __init__(self, disk: object) -> None:
            self._disk = disk

        def __getattr__(self, name: str) -> object:
            return getattr(self._disk, name)

        def sync_directory(self, path: object) -> None:
            pass

    def cut(log: Any, *arguments: Any) -> None:
        disk, log._disk = log._disk, Careless(log._disk)
        try:
            original(log, *arguments)
        finally:
            log._disk = disk

    return cut


@_bug("trust-page-cache", "what a start reads is taken for durable", WriteAheadLog, "recover")
def _(original: Any) -> object:
    class Unsynced:
        def __init__(self, file: object) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def datasync(self) -> None:
            pass

    class Disk:
        def __init__(self, disk: Any) -> None:
            self._disk = disk

        def __getattr__(self, name: str) -> object:
            return getattr(self._disk, name)

        def open(self, path: object, **how: object) -> object:
            return self._disk.open(path, **how) if how else Unsynced(self._disk.open(path))

        def sync_directory(self, path: object) -> None:
            pass

    def recover(log: Any) -> None:
        disk, log._disk = log._disk, Disk(log._disk)
        try:
            original(log)
        finally:
            log._disk = disk
            if isinstance(log._file, Unsynced):
                log._file = log._file._file

    return recover


@_bug("forget-vote", "the vote is forgotten when a node restarts", node, "_recovered_log")
def _(original: Any) -> object:
    def recovered_log(storage: Any) -> MemoryStorage:
        log: MemoryStorage = original(storage)
        hard_state, _ = log.initial_state()
        log.set_hard_state(HardState(hard_state.term, None, hard_state.commit))
        return log

    return recovered_log


@_bug("accept-truncated-log", "whatever does not verify is taken for a torn end", log_reader, "is_torn")
def _(original: Any) -> object:
    return lambda data, offset, segment: True


@_bug("skip-crc", "a record's CRC is not compared", log_reader, "decode_payload")
def _(original: Any) -> object:
    def decode_payload(data: bytes, offset: int, header: Header, segment: int) -> bytes:
        return data[offset + HEADER_BYTES : offset + HEADER_BYTES + header.length]

    return decode_payload


@_bug(
    "merge-without-cutting",
    "an overwritten end is written together with what replaced it",
    log_writer,
    "merge_appends",
)
def _(original: Any) -> object:
    def merge_appends(batch: Sequence[Message]) -> Append:
        append: Append = original(batch)
        return append._replace(entries=[entry for message in batch for entry in message.entries])

    return merge_appends


# ---------------------------------------------------------------- the core


@_bug("acknowledge-before-quorum", "one voter too few is enough to commit", Tracker, "committed")
def _(original: Any) -> object:
    def committed(tracker: Tracker) -> int:
        matches = sorted([tracker.progress[voter].match for voter in tracker.conf_state.voters])
        return matches[min(len(matches) - 1, len(matches) - quorum.quorum_size(matches) + 1)]

    return committed


@_bug("acknowledge-before-durable", "promises leave before they are durable", raft, "_PROMISES")
def _(original: Any) -> object:
    return frozenset()


@_bug("vote-twice", "a node votes for whoever asks", election, "handle_vote_request")
def _(original: Any) -> object:
    def handle_vote_request(core: Raft, message: Message) -> None:
        if message.type is MessageType.VOTE and core.leader_id is None:
            core.vote = None
        original(core, message)

    return handle_vote_request


@_bug("vote-for-short-log", "a vote is given whatever the candidate's log", RaftLog, "is_up_to_date")
def _(original: Any) -> object:
    return lambda log, index, term: True


@_bug(
    "commit-old-term",
    "an entry of an earlier term is committed by count (paper, figure 8)",
    RaftLog,
    "maybe_commit",
)
def _(original: Any) -> object:
    def maybe_commit(log: RaftLog, index: int, term: int) -> bool:
        if index <= log.committed:
            return False
        log.committed = index
        return True

    return maybe_commit


@_bug("append-without-matching", "entries are taken over whatever comes before them", RaftLog, "maybe_append")
def _(original: Any) -> object:
    def maybe_append(
        log: RaftLog, previous_index: int, previous_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        known = log.term_or_zero(previous_index) or previous_term
        result: int | None = original(log, previous_index, known, entries, commit)
        return result

    return maybe_append


@_bug(
    "drop-read-index-round", "a leader answers reads without asking whether it still leads", reads, "_begin"
)
def _(original: Any) -> object:
    def begin(core: Raft, reader: int, context: bytes) -> None:
        reads._answer(core, reader, context, core.log.committed)

    return begin


@_bug(
    "read-before-first-commit",
    "a new leader answers reads before it has committed anything",
    reads,
    "committed_in_own_term",
)
def _(original: Any) -> object:
    return lambda core: True


# ---------------------------------------------------------------- the node


@_bug("stale-read", "a read does not wait until what it must see is applied", ReadRounds, "answered")
def _(original: Any) -> object:
    def answered(rounds: ReadRounds, read_states: Sequence[ReadState]) -> None:
        original(rounds, [ReadState(0, state.context) for state in read_states])

    return answered


@_bug("join-round-under-way", "a read shares a round that was issued before it came", ReadRounds, "join")
def _(original: Any) -> object:
    def join(rounds: Any) -> ReadRound:
        out: ReadRound | None = rounds._out
        joined: ReadRound = original(rounds) if out is None else out
        return joined

    return join


@_bug("apply-out-of-order", "the entries of a batch are applied backwards", Applier, "apply")
def _(original: Any) -> object:
    def apply(applier: Applier, entries: Sequence[Entry]) -> None:
        original(applier, [*reversed(entries[:-1]), entries[-1]] if len(entries) < 3 else entries[::-1])

    return apply


@_bug("unknown-as-refused", "an unknown outcome is told as a refusal", ProposalTable, "give_up")
def _(original: Any) -> object:
    def give_up(table: ProposalTable, proposal: Proposal) -> NoLeader:
        original(table, proposal)
        return NoLeader("no leader took the write in time")

    return give_up


@_bug(
    "forward-twice", "a proposal is sent again although nobody has refused it", ProposalTable, "retry_refused"
)
def _(original: Any) -> object:
    def retry_refused(table: Any) -> None:
        original(table)
        table._queued.update((p.id, p) for p in table._open.values() if p.term is not None)

    return retry_refused


@_bug(
    "forward-of-any-term",
    "a leader appends what was sent to the one before it",
    driver.Driver,
    "_append_forwarded",
)
def _(original: Any) -> object:
    def append_forwarded(self: Any, peer_id: int, forward: Forward) -> None:
        original(self, peer_id, forward._replace(term=self.raw.term))

    return append_forwarded


@_bug(
    "retry-before-it-is-lost",
    "a new leader is sent what the old one may still commit",
    driver.Driver,
    "_note_soft_state",
)
def _(original: Any) -> object:
    def note_soft_state(self: Any, ready: Any) -> None:
        original(self, ready)
        if ready.soft_state is not None:
            self._proposals.term_applied(self.raw.term)

    return note_soft_state


@_bug("settle-by-another's-entry", "the answer of one proposal goes to the next", ProposalTable, "applied")
def _(original: Any) -> object:
    def applied(table: ProposalTable, proposal_id: ProposalId, outcome: proposals.Applied) -> None:
        original(table, proposal_id._replace(sequence=proposal_id.sequence + 1), outcome)
        original(table, proposal_id, outcome)

    return applied
