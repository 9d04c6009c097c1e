"""Bugs in what a node does around its core: proposals, reads, applying."""

from collections.abc import Sequence
from typing import Any

from raftkv_trio.errors import NoLeader
from raftkv_trio.node import proposals
from raftkv_trio.node.applier import Applier
from raftkv_trio.node.driver import driver, proposing
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.lost_entries import LostEntries
from raftkv_trio.node.proposals import Proposal, ProposalTable
from raftkv_trio.node.reads import PendingReads, ReadRound
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.wire import Forward
from raftkv_trio.raft.types import Entry, Message, ReadState
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "stale-read",
    "a read does not wait until the entries that it must see are applied",
    PendingReads,
    "answered",
)
def _(original: Any) -> object:
    def answered(rounds: PendingReads, read_states: Sequence[ReadState]) -> None:
        original(rounds, [ReadState(0, state.context) for state in read_states])

    return answered


@bug(
    BUGS, "join-round-under-way", "a read joins a round that was sent before it arrived", PendingReads, "join"
)
def _(original: Any) -> object:
    def join(rounds: Any) -> ReadRound:
        out: ReadRound | None = rounds._issued
        joined: ReadRound = original(rounds) if out is None else out
        return joined

    return join


@bug(
    BUGS,
    "stale-by-last-heard",
    "a node takes its state for as fresh as its last contact with the leader",
    driver.Driver,
    "_step",
)
def _(original: Any) -> object:
    def step(self: Any, peer_id: int, message: Message) -> None:
        original(self, peer_id, message)
        if peer_id == self._raw.leader_id and message.term == self._raw.term:
            self._reads._freshness.proved(self._reads._freshness.now(), 0)

    return step


@bug(
    BUGS,
    "only-the-last-context-counts",
    "a late answer to an earlier attempt of a read round is thrown away",
    PendingReads,
    "_is_of_round",
)
def _(original: Any) -> object:
    def is_of_round(rounds: Any, context: bytes) -> bool:
        last = rounds._prefix + rounds._sequence.to_bytes(8, "big")
        return bool(rounds._is_asked and context == last)

    return is_of_round


@bug(BUGS, "apply-out-of-order", "the entries of a batch are applied backwards", Applier, "apply")
def _(original: Any) -> object:
    def apply(applier: Applier, entries: Sequence[Entry]) -> None:
        original(applier, [*reversed(entries[:-1]), entries[-1]] if len(entries) < 3 else entries[::-1])

    return apply


@bug(BUGS, "unknown-as-refused", "an unknown outcome is reported as a refusal", ProposalTable, "give_up")
def _(original: Any) -> object:
    def give_up(table: ProposalTable, proposal: Proposal) -> NoLeader:
        original(table, proposal)
        return NoLeader("no leader took the write in time")

    return give_up


@bug(
    BUGS,
    "forward-twice",
    "a proposal is sent again although no leader has refused it",
    ProposalTable,
    "retry_refused",
)
def _(original: Any) -> object:
    def retry_refused(table: Any) -> None:
        original(table)
        table._queued.update((p.id, p) for p in table._open.values() if p.term is not None)

    return retry_refused


@bug(
    BUGS,
    "forward-of-any-term",
    "a leader appends proposals that were sent to the leader before it",
    proposing.Proposer,
    "_append_forwarded",
)
def _(original: Any) -> object:
    def append_forwarded(self: Any, peers: Any, peer_id: int, forward: Forward) -> None:
        original(self, peers, peer_id, forward._replace(term=self._raw.term))

    return append_forwarded


@bug(
    BUGS,
    "retry-before-it-is-lost",
    "a proposal is sent to a new leader although the old one may still commit it",
    driver.Driver,
    "_note_soft_state",
)
def _(original: Any) -> object:
    def note_soft_state(self: Any, ready: Any) -> None:
        original(self, ready)
        if ready.soft_state is not None:
            self._proposals.term_applied(self._raw.term)

    return note_soft_state


@bug(
    BUGS, "settle-by-another's-entry", "the result of one proposal goes to the next", ProposalTable, "applied"
)
def _(original: Any) -> object:
    def applied(table: ProposalTable, proposal_id: ProposalId, outcome: proposals.Applied) -> None:
        original(table, proposal_id._replace(sequence=proposal_id.sequence + 1), outcome)
        original(table, proposal_id, outcome)

    return applied


@bug(
    BUGS,
    "hand-over-once",
    "a node without room hands over only if it led when its disk filled up",
    LeadershipTransfer,
    "begin_if_wanted",
)
def _(original: Any) -> object:
    def begin_if_wanted(transfer: Any) -> None:
        shortage = transfer._proposals.disk_shortage
        if shortage is not None and not getattr(transfer, "was_full", False):
            transfer.request()
        transfer.was_full = shortage is not None
        transfer._proposals.disk_shortage = None
        original(transfer)
        transfer._proposals.disk_shortage = shortage

    return begin_if_wanted


@bug(
    BUGS,
    "lost-entries-answer",
    "a member that has lost acknowledged entries only drops the heartbeats that tell it so",
    LostEntries,
    "noticed",
)
def _(original: Any) -> object:
    return lambda lost, error: None


@bug(
    BUGS,
    "strangers-are-let-in",
    "what a node says counts, whether it is known to be a member or not",
    KnownNodes,
    "__contains__",
)
def _(original: Any) -> object:
    return lambda known, node_id: True
