"""A core's state at one moment, for operators and for the driver's decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from raftkv_trio.raft.progress import Progress, ProgressState
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import ConfState, StateRole


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressStatus:
    """What a leader knows of one member (see `progress.Progress`), as a copy.

    Attributes:
        text: the form that etcd's raft prints.
    """

    match: int
    next: int
    state: ProgressState
    is_learner: bool
    recent_active: bool
    paused: bool
    pending_snapshot: int | None
    inflight_messages: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A core at one moment; `progress` is empty on all but the leader."""

    id: int
    term: int
    vote: int | None
    commit: int
    applied: int
    leader_id: int | None
    role: StateRole
    last_index: int
    transferee: int | None
    configuration: ConfState
    progress: Mapping[int, ProgressStatus] = field(default_factory=lambda: MappingProxyType({}))


def status_of(raft: Raft) -> Status:
    """A copy of the state of `raft`. Later changes of `raft` do not affect it."""
    # Only a leader is told how far other logs reach.
    leads = raft.role is StateRole.LEADER
    progress = {member: _progress_status(p) for member, p in raft.tracker.progress.items()} if leads else {}
    return Status(
        id=raft.id,
        term=raft.term,
        vote=raft.vote,
        commit=raft.log.committed,
        applied=raft.log.applied,
        leader_id=raft.leader_id,
        role=raft.role,
        last_index=raft.log.last_index(),
        transferee=raft.transferee,
        configuration=raft.conf_state,
        progress=MappingProxyType(progress),
    )


def _progress_status(progress: Progress) -> ProgressStatus:
    return ProgressStatus(
        match=progress.match,
        next=progress.next,
        state=progress.state,
        is_learner=progress.is_learner,
        recent_active=progress.recent_active,
        paused=progress.paused,
        pending_snapshot=progress.pending_snapshot,
        inflight_messages=len(progress.inflights),
        text=str(progress),
    )
