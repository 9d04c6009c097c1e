"""The types that the core, its log and its peers share. Names are those of etcd's raft (raftpb), if possible.

Node ids are positive integers. Terms and indexes count from 0, the state before any election and before any
entry. `None` means unset.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.records import record

#: Addressee of STORAGE_APPEND messages: the log writer (etcd's LocalAppendThread).
APPEND_THREAD = -1
#: Addressee of STORAGE_APPLY messages: the applier (etcd's LocalApplyThread).
APPLY_THREAD = -2


class EntryType(IntEnum):
    """What an entry's data is. The numbers are those of raftpb and part of the log format."""

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
    """What must be durable before a node promises anything in its term (paper, figure 2).

    `commit` is not needed for safety. It saves a restarted node from waiting for a leader to tell it.
    """

    term: int = 0
    vote: int | None = None
    commit: int = 0


class ConfState(NamedTuple):
    """A configuration of the cluster (paper, section 6).

    Attributes:
        voters: the voters; in a joint configuration, those of the incoming half.
        learners: members that receive the log and count in no quorum.
        voters_outgoing: in a joint configuration, the voters of the half that is left behind; else empty.
        learners_next: voters of the outgoing half that become learners when the configuration is left.
        auto_leave: the leader leaves the joint configuration without being asked to.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a state machine right after entry `index`, with the configuration in force there."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = field(default=ConfState())
    data: bytes = b""


class MessageType(IntEnum):
    """Kinds of messages. The numbers are this project's own, and part of the wire format."""

    # An election timeout and a heartbeat timeout in etcd's raft. Here `RawNode.tick` acts without a message.
    HUP = 1
    BEAT = 2
    # A client's entries, on their way to the leader.
    PROP = 3
    # AppendEntries (paper, figure 2).
    APP = 4
    APP_RESP = 5
    # RequestVote (figure 2), and the same for a pre-vote (dissertation 9.6).
    VOTE = 6
    VOTE_RESP = 7
    PRE_VOTE = 8
    PRE_VOTE_RESP = 9
    # InstallSnapshot (figure 13). The receiver answers with APP_RESP; SNAP_STATUS is the word of the leader's
    # own driver on whether the snapshot was delivered.
    SNAP = 10
    SNAP_STATUS = 11
    # The empty AppendEntries of the paper. They are kinds of their own because heartbeats have no consistency
    # check, and confirm the rounds of reads.
    HEARTBEAT = 12
    HEARTBEAT_RESP = 13
    # The driver's word that messages to a node may be lost.
    UNREACHABLE = 14
    CHECK_QUORUM = 15
    # Leadership transfer (dissertation 3.10): a request to the leader, and the leader's word to its target.
    TRANSFER_LEADER = 16
    TIMEOUT_NOW = 17
    # Linearizable reads (dissertation 6.4).
    READ_INDEX = 18
    READ_INDEX_RESP = 19
    FORGET_LEADER = 20
    # Between a core and its storage.
    STORAGE_APPEND = 21
    STORAGE_APPEND_RESP = 22
    STORAGE_APPLY = 23
    STORAGE_APPLY_RESP = 24


@dataclass(slots=True, kw_only=True)
class Message:
    """A message between cores, or between a core and its storage (raftpb.Message).

    Attributes:
        to, from_: node ids, or APPEND_THREAD or APPLY_THREAD. In TRANSFER_LEADER, UNREACHABLE and
            SNAP_STATUS, `from_` is the node that the message is about.
        term: the sender's term; 0 on messages that stay on a node, or that belong to no term.
        log_term, index: in APP, the entry before `entries`; in VOTE, the candidate's last entry; in answers
            to votes, the last entry that the voter knows to be committed.
        commit: the sender's commit index. In STORAGE_APPEND_RESP, a commit index that is durable now, or 0.
        commit_term: in VOTE and PRE_VOTE, the term of the entry at `commit`.
        vote: in STORAGE_APPEND, the vote to make durable.
        snapshot: in SNAP, the snapshot; in STORAGE_APPEND, a snapshot to install.
        reject, reject_hint: in answers, that APP or VOTE was refused; for APP with the conflict hint.
        context: of reads and their rounds, and of campaigns that a leader asked for.
        responses: in STORAGE_APPEND and STORAGE_APPLY, what to deliver, in order, when the work is done.
    """

    type: MessageType
    to: int
    from_: int
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    commit_term: int = 0
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
    """State that need not be durable: the leader, and the role of this node."""

    leader_id: int | None
    role: StateRole


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to a read: it is linearizable once `index` is applied (dissertation, section 6.4)."""

    index: int
    context: bytes


@dataclass(slots=True, kw_only=True)
class Ready:
    """The work that a core hands out (etcd's Ready). The package's docstring has the contract.

    With asynchronous storage writes, `messages` holds all work, as STORAGE_APPEND and STORAGE_APPLY; the
    fields `hard_state`, `entries`, `snapshot` and `committed_entries` repeat it.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False
