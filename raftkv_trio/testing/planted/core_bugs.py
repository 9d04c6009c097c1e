"""Bugs in the consensus core."""

from collections.abc import Sequence
from typing import Any

from raftkv_trio.raft import election, quorum, raft, read_index
from raftkv_trio.raft.log import RaftLog
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.tracker import Tracker
from raftkv_trio.raft.types import Entry, Message, MessageType
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(BUGS, "acknowledge-before-quorum", "one voter too few is enough to commit", Tracker, "committed")
def _(original: Any) -> object:
    def committed(tracker: Tracker) -> int:
        matches = sorted([tracker.progress[voter].match for voter in tracker.conf_state.voters])
        return matches[min(len(matches) - 1, len(matches) - quorum.quorum_size(matches) + 1)]

    return committed


@bug(BUGS, "acknowledge-before-durable", "promises leave before they are durable", raft, "_PROMISES")
def _(original: Any) -> object:
    return frozenset()


@bug(BUGS, "vote-twice", "a node votes for every candidate that asks", election, "handle_vote_request")
def _(original: Any) -> object:
    def handle_vote_request(core: Raft, message: Message) -> None:
        if message.type is MessageType.VOTE and core.leader_id is None:
            core.vote = None
        original(core, message)

    return handle_vote_request


@bug(BUGS, "vote-for-short-log", "a node votes for a candidate with a shorter log", RaftLog, "is_up_to_date")
def _(original: Any) -> object:
    return lambda log, index, term: True


@bug(
    BUGS,
    "commit-old-term",
    "an entry of an earlier term is committed by counting copies (paper, figure 8)",
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


@bug(
    BUGS,
    "append-without-matching",
    "entries are appended without a check of the entry before them",
    RaftLog,
    "maybe_append",
)
def _(original: Any) -> object:
    def maybe_append(
        log: RaftLog, previous_index: int, previous_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        known = log.term_or_zero(previous_index) or previous_term
        result: int | None = original(log, previous_index, known, entries, commit)
        return result

    return maybe_append


@bug(
    BUGS,
    "drop-read-index-round",
    "a leader answers reads without asking a quorum whether it still leads",
    read_index,
    "_begin",
)
def _(original: Any) -> object:
    def begin(core: Raft, reader: int, context: bytes) -> None:
        read_index._answer(core, reader, context, core.log.committed)

    return begin


@bug(
    BUGS,
    "read-before-first-commit",
    "a new leader answers reads before it has committed anything",
    read_index,
    "committed_in_own_term",
)
def _(original: Any) -> object:
    return lambda core: True
