"""The words that the core, its log and its peers share; names after etcd's raft (raftpb) where it has one.

Node ids are positive integers. Terms and indexes count from 0, which is the state before any election and
before any entry. `None` means unset.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.records import record

#: Addressee of `STORAGE_APPEND` messages: whoever writes the log (etcd's LocalAppendThread).
APPEND_THREAD = -1
#: Addressee of `STORAGE_APPLY` messages: whoever applies committed entries (etcd's LocalApplyThread).
APPLY_THREAD = -2


class EntryType(IntEnum):
    """What an entry's data is; the numbers are those of raftpb and stand in logs."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


@record
class Entry:
    """One log entry (paper, section 5.3)."""

    term: int
    index: int
    type: EntryType = EntryType.NORMAL
    data: bytes = b""


class HardState(NamedTuple):
    """What must be durable before messages of its term leave (paper, figure 2); commit is a hint only."""

    term: int = 0
    vote: int | None = None
    commit: int = 0


class ConfState(NamedTuple):
    """A configuration: `voters_outgoing` is non-empty while it is joint (paper, section 6)."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state machine's state right after `index`, with the configuration in force there."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = field(default=ConfState())
    data: bytes = b""


class MessageType(IntEnum):
    """Kinds of messages; the numbers are ours and stand on the wire."""

    HUP = 1
    BEAT = 2
    PROP = 3
    APP = 4
    APP_RESP = 5
    VOTE = 6
    VOTE_RESP = 7
    PRE_VOTE = 8
    PRE_VOTE_RESP = 9
    SNAP = 10
    SNAP_STATUS = 11
    HEARTBEAT = 12
    HEARTBEAT_RESP = 13
    UNREACHABLE = 14
    CHECK_QUORUM = 15
    TRANSFER_LEADER = 16
    TIMEOUT_NOW = 17
    READ_INDEX = 18
    READ_INDEX_RESP = 19
    FORGET_LEADER = 20
    STORAGE_APPEND = 21
    STORAGE_APPEND_RESP = 22
    STORAGE_APPLY = 23
    STORAGE_APPLY_RESP = 24


@dataclass(slots=True, kw_only=True)
class Message:
    """A message between cores, or between a core and its storage (raftpb.Message).

    Attributes:
        term: the sender's term; 0 on messages that stay on a node.
        log_term, index: the entry before `entries` in APP; the last entry of a candidate in VOTE.
        commit: the sender's commit index; in STORAGE_APPEND_RESP, one that is durable now, or 0.
        vote: in STORAGE_APPEND, the vote to make durable.
        snapshot: in SNAP, and in STORAGE_APPEND where one is to be installed.
        reject, reject_hint: a refused APP or VOTE, with the conflict hint of the former.
        context: of READ_INDEX rounds and forced campaigns.
        responses: in STORAGE_APPEND and STORAGE_APPLY: what to deliver once the work is durable, in order.
    """

    type: MessageType
    to: int
    from_: int
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int | None = None
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    responses: list["Message"] = field(default_factory=list)


class StateRole(IntEnum):
    """A node's role (paper, figure 4; PRE_CANDIDATE after the dissertation, section 9.6)."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


class SoftState(NamedTuple):
    """What need not be durable: who leads, and what this node is."""

    leader_id: int | None
    role: StateRole


@dataclass(frozen=True, slots=True)
class ReadState:
    """A ReadIndex round's answer (dissertation, section 6.4): reads at `index` applied are linearizable."""

    index: int
    context: bytes


@dataclass(slots=True, kw_only=True)
class Ready:
    """What a core wants done (etcd's Ready); the contract of its fields stands in `rawnode.py`.

    With asynchronous storage writes `messages` holds everything, STORAGE_APPEND and STORAGE_APPLY included,
    and the fields above it only repeat what is in those.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False
