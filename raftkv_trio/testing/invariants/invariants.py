"""What must hold in a cluster after every step, checked from outside while it runs.

The checker remembers each node's log as it last saw it, and compares only new entries with all entries that
any node ever held. So a check costs nothing if nothing has changed.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from raftkv_trio.payload.membership import Membership
from raftkv_trio.payload.proposal import ProposalId, decode_proposal
from raftkv_trio.raft.confchange import all_members, all_voters, decode_conf_change
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.storage import MemoryStorage, Storage
from raftkv_trio.raft.types import ConfState, Entry, EntryType, Message, MessageType, StateRole
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing.invariants.configurations import Configuration, Configurations, halves
from raftkv_trio.testing.invariants.durability import Promise, holds
from raftkv_trio.testing.invariants.equal_states import EqualStates
from raftkv_trio.testing.invariants.freshness import FreshnessCheck
from raftkv_trio.testing.invariants.violation import (
    ACKNOWLEDGED,
    DURABLE_QUORUM,
    ELECTED,
    ELECTION_SAFETY,
    LEADER_APPEND_ONLY,
    LEADER_COMPLETENESS,
    LOG_MATCHING,
    ONCE,
    ONE_CHANGE,
    ONE_VOTE,
    REMOVED,
    STATE_MACHINE_SAFETY,
    Violation,
)


@dataclass(slots=True)
class _View:
    """One node as it was last seen.

    Attributes:
        terms: the terms of all entries after the bootstrap snapshot, in order.
        leads: the term that it leads; None if it is no leader.
        applied: index of the last command that its state machine applied.
        conf: the configuration of its core; None until it is looked at for the first time.
        conf_before: the configuration of its core when it ended last.
    """

    base: int
    terms: list[int] = field(default_factory=list)
    term: int = 0
    vote: int | None = None
    leads: int | None = None
    commit: int = 0
    applied: int = 0
    disk: MemoryStorage | None = None
    conf: ConfState | None = None
    conf_before: ConfState | None = None

    @property
    def last_index(self) -> int:
        return self.base + len(self.terms)


class Invariants:
    """Watches the cores of one cluster; every method raises Violation.

    Attributes:
        acknowledged: how many commands clients were told of as applied.
        freshness: checks what nodes say of their own state's age.

    Args:
        base: index of the snapshot that the cluster was bootstrapped with.
    """

    def __init__(self, base: int = 1) -> None:
        self._base = base
        self._views: dict[int, _View] = {}
        self._promises: dict[int, Promise] = {}
        self._leaders: dict[int, int] = {}  # by term
        self._votes: dict[tuple[int, int], set[int]] = {}  # by term and candidate
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}  # by index and term: term before, entry
        self._committed: list[Entry] = []
        self._proposals: dict[ProposalId, int] = {}  # the index at which each was committed
        self._commit_terms: list[int] = []  # by entry: the term of the leader that committed it
        self._configurations: Configurations | None = None
        self._equal_states = EqualStates()
        self._refused: set[ProposalId] = set()
        self.acknowledged = 0
        self.freshness = FreshnessCheck()

    @property
    def committed_index(self) -> int:
        """The highest index that any node has committed."""
        return self._base + len(self._committed)

    @property
    def configuration(self) -> Configuration:
        """The newest committed configuration."""
        return self._known_configurations.newest

    @property
    def _known_configurations(self) -> Configurations:
        assert self._configurations is not None, "no node has started yet"
        return self._configurations

    def configurations_in_force(self) -> list[ConfState]:
        """The newest committed one, and those of members that have not applied it, or would forget it."""
        newest = self.configuration.conf_state
        confs = [newest]
        for node_id in all_members(newest):
            view = self._views.get(node_id)
            if view is not None and view.conf is not None:
                confs += [view.conf, self._configuration_on_disk(node_id)]
        return confs

    # ------------------------------------------------------------ a node's life

    def started(self, node_id: int, raft: Raft) -> None:
        """A node has opened its directory and made its core."""
        before = self._views.get(node_id)
        view = _View(
            self._base, applied=raft.log.applied, conf_before=None if before is None else before.conf
        )
        self._views[node_id] = view
        if self._configurations is None:
            self._configurations = Configurations(raft.conf_state, self._base)
        promise = self._promises.pop(node_id, None)
        if promise is not None:
            promise.check(node_id, raft)
        assert isinstance(raft.log.storage, MemoryStorage)
        view.disk = raft.log.storage
        self.observe(node_id, raft)

    def halted(self, node_id: int, raft: Raft) -> None:
        """A node has ended, cleanly or not; it must come back with all that it knew to be durable."""
        self._promises[node_id] = Promise.of(raft)

    def set_back(self, node_id: int) -> None:
        """The data directory of a node that is down holds an older copy of itself: its promises are void."""
        self._promises.pop(node_id, None)

    # ------------------------------------------------------------ after every step

    def observe(self, node_id: int, raft: Raft) -> None:
        """A node may have changed: check what is new."""
        view = self._views[node_id]
        if raft.term == view.term:
            if view.vote is not None and raft.vote != view.vote:
                raise Violation(
                    ONE_VOTE, f"node {node_id} votes for {raft.vote} and {view.vote} in term {raft.term}"
                )
        elif raft.term < view.term:
            raise Violation(ONE_VOTE, f"node {node_id} goes from term {view.term} to {raft.term}")
        if raft.vote is not None and (raft.term, raft.vote) != (view.term, view.vote):
            self.voted(node_id, raft.term, raft.vote)
        view.term, view.vote = raft.term, raft.vote
        log = raft.log
        is_joiner = log.last_index() < self._base  # its log is still empty
        if not is_joiner and (
            log.last_index() != view.last_index or log.last_term() != (view.terms or [log.last_term()])[-1]
        ):
            self._take_entries(node_id, view, raft)
        if raft.role is not StateRole.LEADER:
            view.leads = None
        elif view.leads != raft.term:
            self._take_leader(node_id, view, raft)
        if log.committed > view.commit:
            self._take_commit(node_id, view, raft)
        if raft.conf_state is not view.conf:
            self._take_configuration(node_id, view, raft)
        if view.leads is not None and node_id not in all_voters(raft.conf_state):
            raise Violation(REMOVED, f"node {node_id} leads term {raft.term}, and is no voter any more")

    def written(self, node_id: int, messages: Iterable[Message]) -> None:
        """STORAGE_APPEND messages of a node are durable, and with them the votes that it grants in them."""
        # A node may vote, and go on to a later term, in one turn: its votes are not all seen in its state.
        for message in messages:
            for response in message.responses:
                if response.type is MessageType.VOTE_RESP and not response.reject:
                    self.voted(node_id, response.term, response.to)

    def voted(self, node_id: int, term: int, candidate: int) -> None:
        """A node votes for `candidate`."""
        self._votes.setdefault((term, candidate), set()).add(node_id)

    def _take_configuration(self, node_id: int, view: _View, raft: Raft) -> None:
        view.conf, snapshot = raft.conf_state, raft.log.unstable.snapshot
        index = raft.log.applied if snapshot is None else snapshot.index
        if index >= self._base:
            self._known_configurations.check(node_id, index, raft.conf_state)

    def members(self, node_id: int, index: int, membership: Membership) -> None:
        """A node has applied a change of members, or starts with these members, at `index`."""
        if index >= self._base:  # a joiner knows the members before it has applied anything
            self._known_configurations.check_members(node_id, index, membership)

    def _take_entries(self, node_id: int, view: _View, raft: Raft) -> None:
        log, terms, base = raft.log, view.terms, self._base
        # Up to here a snapshot holds the entries, and only committed entries are in a snapshot.
        floor = max(base, log.first_index() - 1)
        if floor > base and (view.last_index < floor or terms[floor - base - 1] != log.term(floor)):
            self._take_snapshot(node_id, view, floor, log.term(floor))
        common = min(log.last_index(), view.last_index)
        while common > floor and log.term(common) != terms[common - base - 1]:
            common -= 1
        if common < view.last_index:
            if view.leads == raft.term:
                raise Violation(
                    LEADER_APPEND_ONLY, f"node {node_id} leads term {raft.term} and drops entry {common + 1}"
                )
            if common < view.commit:
                raise Violation(STATE_MACHINE_SAFETY, f"node {node_id} drops committed entry {common + 1}")
            del terms[common - base :]
        before = log.term(common)
        for entry in log.slice(common + 1, log.last_index() + 1, None):
            known_before, known = self._entries.setdefault((entry.index, entry.term), (before, entry))
            if known_before != before or known != entry:
                raise Violation(
                    LOG_MATCHING,
                    f"node {node_id} has another entry {entry.index} of term {entry.term} than others, or"
                    f" another one before it: {entry} behind term {before}, {known} behind {known_before}",
                )
            terms.append(entry.term)
            before = entry.term
            if (
                entry.type is not EntryType.NORMAL
                and entry.term == raft.term
                and raft.role is StateRole.LEADER
            ):
                self._check_change(node_id, view, raft, entry)

    def _check_change(self, node_id: int, view: _View, raft: Raft, change: Entry) -> None:
        """A leader has appended a conf change; it must have applied all earlier ones."""
        for index in range(raft.log.applied + 1, change.index):
            earlier = self._entries[index, view.terms[index - self._base - 1]][1]
            if earlier.type is not EntryType.NORMAL:
                raise Violation(
                    ONE_CHANGE,
                    f"node {node_id} appends a change as entry {change.index}, and has not applied that of"
                    f" entry {index} yet",
                )

    def _take_snapshot(self, node_id: int, view: _View, index: int, term: int) -> None:
        """A snapshot has replaced the beginning of a node's log."""
        if index > self.committed_index or self._committed[index - self._base - 1].term != term:
            raise Violation(
                STATE_MACHINE_SAFETY,
                f"node {node_id} has a snapshot at index {index} of term {term}, which is not committed",
            )
        view.terms[:] = [entry.term for entry in self._committed[: index - self._base]]

    def _take_leader(self, node_id: int, view: _View, raft: Raft) -> None:
        view.leads = term = raft.term
        other = self._leaders.setdefault(term, node_id)
        if other != node_id:
            raise Violation(ELECTION_SAFETY, f"nodes {other} and {node_id} both lead term {term}")
        votes = self._votes.get((term, node_id), set())
        for half in halves(raft.conf_state):
            if not _is_majority(votes, half):
                raise Violation(
                    ELECTED,
                    f"node {node_id} leads term {term} by the votes of {sorted(votes)} of {half} only",
                )
        for entry, commit_term in zip(self._committed, self._commit_terms, strict=True):
            if commit_term >= term:
                break
            position = entry.index - self._base - 1
            if position >= len(view.terms) or view.terms[position] != entry.term:
                raise Violation(
                    LEADER_COMPLETENESS,
                    f"node {node_id} leads term {term} without entry {entry.index} of term {entry.term},"
                    f" which was committed in term {commit_term}",
                )

    def _take_commit(self, node_id: int, view: _View, raft: Raft) -> None:
        first, view.commit = max(view.commit, self._base) + 1, raft.log.committed
        known_before = self.committed_index
        for index in range(first, view.commit + 1):
            term = view.terms[index - self._base - 1]
            if index <= self.committed_index:
                known = self._committed[index - self._base - 1]
                if known.term != term:
                    raise Violation(
                        STATE_MACHINE_SAFETY,
                        f"node {node_id} commits entry {index} of term {term}, others of {known.term}",
                    )
                continue
            self._committed.append(self._entries[index, term][1])
            self._commit_terms.append(raft.term)
            self._take_proposal(self._committed[-1])
            if self._committed[-1].type is not EntryType.NORMAL:
                self._known_configurations.take(self._committed[-1])
        if view.commit > known_before:
            self._check_commit(node_id, view, raft)

    def _take_proposal(self, entry: Entry) -> None:
        if entry.type is EntryType.NORMAL and entry.data:
            proposal_id, _ = decode_proposal(entry.data)
            other = self._proposals.setdefault(proposal_id, entry.index)
            if other != entry.index:
                raise Violation(ONCE, f"entries {other} and {entry.index} are one proposal, {proposal_id}")

    def _check_commit(self, node_id: int, view: _View, raft: Raft) -> None:
        index = view.commit
        term = view.terms[index - self._base - 1]
        holders = {i for i, v in self._views.items() if v.disk is not None and holds(v.disk, index, term)}
        # A leader may have ended when the commit was on its disk, and nobody was told of it. The commit was
        # decided in the configuration of that leader, which begins again with that of its snapshot.
        decided_in = raft.conf_state if view.conf is not None else view.conf_before or raft.conf_state
        for half in halves(decided_in):
            if not _is_majority(holders, half):
                raise Violation(
                    DURABLE_QUORUM,
                    f"node {node_id} commits entry {index} of term {term}, which is durable on"
                    f" {sorted(holders)} of {half} only",
                )
        for candidate in sorted(set(self._views) - holders):
            voters = self._voters_for(candidate)
            conf = self._configuration_on_disk(candidate)
            if candidate in all_voters(conf) and all(_is_majority(voters, half) for half in halves(conf)):
                raise Violation(
                    LEADER_COMPLETENESS,
                    f"node {node_id} commits entry {index} of term {term}, without which node {candidate}"
                    f" could still be elected by {sorted(voters)}",
                )

    def _configuration_on_disk(self, node_id: int) -> ConfState:
        """The configuration in which a node would campaign after a halt: that of its durable commit index."""
        disk = self._views[node_id].disk
        assert disk is not None
        commit = max(disk.initial_state()[0].commit, disk.newest_snapshot.index)
        return self._known_configurations.at(commit).conf_state if commit >= self._base else ConfState()

    def _voters_for(self, candidate: int) -> set[int]:
        """The nodes whose durable logs let them vote for `candidate` (paper, section 5.4.1)."""
        ends = {i: _end(v.disk) for i, v in self._views.items() if v.disk is not None}
        return {i for i, end in ends.items() if candidate in ends and end <= ends[candidate]}

    # ------------------------------------------------------------ state machines and clients

    def applied(self, node_id: int, command: Committed, state: str) -> None:
        """A node's state machine has applied `command`; its state hash is now `state`."""
        view = self._views[node_id]
        if command.index > view.commit:
            raise Violation(
                STATE_MACHINE_SAFETY, f"node {node_id} applies entry {command.index}, which is not committed"
            )
        for index in range(max(view.applied, self._base) + 1, command.index):
            skipped = self._committed[index - self._base - 1]
            if skipped.type is EntryType.NORMAL and skipped.data:
                raise Violation(STATE_MACHINE_SAFETY, f"node {node_id} does not apply entry {index}")
        entry = self._committed[command.index - self._base - 1]
        if command.index <= view.applied:
            raise Violation(
                STATE_MACHINE_SAFETY, f"node {node_id} applies entry {command.index} after {view.applied}"
            )
        if entry.term != command.term or not entry.data.endswith(command.command):
            raise Violation(
                STATE_MACHINE_SAFETY,
                f"node {node_id} applies at index {command.index} something else than what is committed",
            )
        view.applied = command.index
        self._equal_states.applied(node_id, command.index, state)

    def restored(self, node_id: int, index: int, state: str, level_since: int = 0) -> None:
        """A node's state machine was restored from a snapshot at `index`; its state hash is now `state`."""
        self._views[node_id].applied = index
        self._equal_states.restored(node_id, index, state, level_since)

    def refused(self, proposal_id: ProposalId) -> None:
        """A client was told that its change is not and will not be applied."""
        self._refused.add(proposal_id)

    def check_refusals(self) -> None:
        """Check that no refused change was applied later; to be called at the end."""
        for entry in self._committed:
            if entry.type is EntryType.NORMAL or not (context := decode_conf_change(entry).context):
                continue
            proposal_id, _ = decode_proposal(context)
            if proposal_id in self._refused:
                raise Violation(
                    ACKNOWLEDGED, f"a client was told that the change of entry {entry.index} was refused"
                )

    def committed_commands(self) -> list[Entry]:
        """The committed entries that propose something to the state machine."""
        return [entry for entry in self._committed if entry.type is EntryType.NORMAL and entry.data]

    def check_acknowledged(self, term: int, index: int, command: bytes) -> None:
        """A client was told that the entry at this term and index applied its command."""
        self.acknowledged += 1
        entry = self._committed[index - self._base - 1] if index <= self.committed_index else None
        if entry is None or entry.term != term or not entry.data.endswith(command):
            raise Violation(
                ACKNOWLEDGED, f"a client was told of entry {index} of term {term}, which is not committed"
            )


def _end(storage: Storage) -> tuple[int, int]:
    """Term and index of the last entry."""
    index = storage.last_index()
    return storage.term(index), index


def _is_majority(holders: Collection[int], voters: Collection[int]) -> bool:
    return 2 * len([voter for voter in voters if voter in holders]) > len(voters)
