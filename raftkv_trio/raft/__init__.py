"""The consensus core: etcd's raft in Python. It has no I/O, no clock and no threads, and imports no Trio.

A `RawNode` is one node's Raft as a state machine. The program around it, its driver, feeds it ticks,
messages and proposals, and carries out what each `Ready` asks for: write the log, apply entries, send
messages. In this package the driver is `node/driver/`; in tests it is `tests/raft/cores.py`.

A whole cluster
===============

Three nodes of one program, with lists for state machines. `tests/raft/test_front_door.py` runs this text.

>>> import random
>>> from raftkv_trio.raft import *

Every node begins with the same snapshot, which names the members:

>>> first = Snapshot(index=1, term=1, conf_state=ConfState(voters=(1, 2, 3)))
>>> storages = {i: MemoryStorage(first, HardState(term=1, commit=1)) for i in (1, 2, 3)}
>>> nodes = {
...     i: RawNode(Config(id=i, random=random.Random(i), async_storage_writes=True), storage)
...     for i, storage in storages.items()
... }
>>> applied = {i: [] for i in nodes}

The driver of a node does what a Ready says and returns the messages for other nodes:

>>> def handle_ready(node_id):
...     node, storage, outgoing = nodes[node_id], storages[node_id], []
...     for message in node.ready().messages:
...         if message.to == APPEND_THREAD:
...             # A real driver writes entries and hard state to its disk here, and waits for fdatasync.
...             storage.append(message.entries)
...             if message.term:
...                 storage.set_hard_state(HardState(message.term, message.vote, message.commit))
...         elif message.to == APPLY_THREAD:
...             applied[node_id] += [entry.data for entry in message.entries if entry.data]
...         else:
...             outgoing.append(message)
...         # The work is durable, or applied: now its responses may be delivered.
...         for response in message.responses:
...             if response.to == node_id:
...                 node.step(response)
...             else:
...                 outgoing.append(response)
...     return outgoing

>>> def run_until_quiet():
...     while busy := [i for i in nodes if nodes[i].has_ready()]:
...         for message in [message for i in busy for message in handle_ready(i)]:
...             nodes[message.to].step(message)

Node 1 asks for votes, as it would when its election timeout has passed, and wins:

>>> nodes[1].campaign()
>>> run_until_quiet()
>>> nodes[1].role.name, nodes[1].term, nodes[3].leader_id
('LEADER', 2, 1)

The first entry of its term is empty (section 5.4.2); the second one is ours:

>>> nodes[1].propose(b"x = 1")
3
>>> run_until_quiet()
>>> applied
{1: [b'x = 1'], 2: [b'x = 1'], 3: [b'x = 1']}

The Ready contract
==================

`RawNode.ready()` hands out all work that has come up since the last call. The core regards this work as
accepted: it hands out nothing twice, except for messages that Raft itself repeats. The driver changes
nothing in a Ready. It calls `ready()` again whenever `has_ready()` is true, in asynchronous mode also while
earlier work is still under way.

With `Config.async_storage_writes`, `Ready.messages` holds all work. The driver takes the messages in order.
What to do depends on `message.to`:

`APPEND_THREAD`: write to the log. These messages are worked off in the order in which they came. For each:

1. Make durable, in this order: `snapshot` if there is one, which replaces the whole log; `entries`, which
   replace all stored entries from the index of the first one on; the hard state `(term, vote, commit)` if
   `term` is not 0.
2. Put the same into the `Storage` that the core reads, no earlier: what it returns counts as durable.
3. If there is a snapshot, restore the state machine from it.
4. Deliver `responses` in order: step those whose `to` is this node, send the others.

Several messages may share one sync. A message needs no sync of its own if it has neither entries nor
snapshot, its term and vote are those stored, and its commit index does not newly cover a conf change.
Its responses still wait until all messages before it are durable. `Ready.must_sync` says this of a Ready,
except for a conf change whose commit a follower hears of: there, storage compares the commit indexes itself.

`APPLY_THREAD`: apply `entries` to the state machine, in order. For each conf change call
`apply_conf_change(decode_conf_change(entry))`. Skip entries that a snapshot installed in the meantime
covers, conf changes too. Then step `responses`. All these entries are durable on this node already.

Any other `to`: send the message to that node, at once. It may be lost, repeated or overtaken. If it is
known to be lost, call `report_unreachable`; for SNAP always call `report_snapshot`, or the leader waits for
ever.

`Ready.read_states` answers `read_index`: a read with that context is linearizable once the state machine
has applied up to that index. `Ready.soft_state` is set when the leader or this node's role has changed. The
other fields repeat what the messages hold.

Without asynchronous writes: make `snapshot`, `entries` and `hard_state` durable and put them into `Storage`;
only then send `messages`, since here they include promises; apply `committed_entries`; call `advance()`.

Which messages wait for the disk
--------------------------------

Raft is safe only if no node forgets what it has told others. So the core puts each message that promises
something into the `responses` of the write that makes the promise durable:

| message | what it promises | if a crash could take it back |
| --- | --- | --- |
| VOTE_RESP | this node votes for nobody else in this term | two leaders in one term (section 5.2) |
| APP_RESP | the entries are in this node's log | an entry that was committed is lost (section 5.3) |
| the leader's APP_RESP to itself | the same; the leader counts as one node | the same |
| VOTE (`durable_campaigns`) | this node is a candidate of this term | it wins one term twice, with two logs |
| STORAGE_APPEND_RESP | the entries may leave memory and be applied | the state machine is ahead of its log |

PRE_VOTE_RESP binds nobody; it waits with the votes, as in etcd. All other messages may overtake the disk:

- APP and SNAP. The leader sends entries while it writes them itself (dissertation, section 10.2.1). It
  counts itself only when its own write is durable.
- HEARTBEAT_RESP. It tells only what is so now: this node has not left the leader's term. If a crash makes
  the node forget that term, nothing is lost: the quorum that elected the leader has the term on its disks,
  and every other quorum includes one of those nodes.

Rules for the driver
====================

- One task calls a `RawNode`. No method blocks.
- Call `tick()` at a fixed interval. Step waiting messages first, so that a node that was paused hears its
  leader before it starts an election.
- `step` checks each message before it changes anything. On `StepError` drop the message; `PeerNotFound` is
  normal after a removal. `ProposalDropped` from `step` means that a forwarded proposal was not taken.
- `InvalidState` means that storage or driver broke this contract. Stop the node.
- At a restart, `Config.applied` says how far the state machine got; entries above it are handed out again.

Where the paper is
==================

Sections of the Raft paper (extended version) and of Ongaro's dissertation:

| paper | dissertation | subject | code |
| --- | --- | --- | --- |
| figure 2 | 3.3 | the state of one node | `raft.Raft`, `types.HardState` |
| 5.1 | 3.3 | terms | `step.step`, `raft.reset` |
| 5.2 | 3.4 | elections and their timeouts | `election.tick`, `election.campaign`, `raft.reset` |
| 5.2, 5.4.1 | 3.4, 3.6.1 | who gets a vote | `election.handle_vote_request`, `log.RaftLog.is_up_to_date` |
| 5.3 | 3.5 | appending, Log Matching | `replication.send_append`, `log.RaftLog.maybe_append` |
| 5.3, end | 3.5 | finding where two logs part | `log.RaftLog.find_conflict_by_term` |
| 5.4.2 | 3.6.2 | when an entry is committed | `replication.maybe_commit`, `election.become_leader` |
| 5.5 | 3.7 | lost messages are sent again | `replication.handle_heartbeat_response` |
| 5.6 | 3.9 | timing | `config.Config` |
| figure 2 | 3.8 | what is durable before what | `raft.Raft.send`, `rawnode.RawNode.ready` |
| | 3.10 | leadership transfer | `election.handle_transfer`, `election.handle_timeout_now` |
| 6 | 4.3 | joint consensus | `confchange.enter_joint`, `quorum.joint_committed`, `quorum.joint_vote` |
| | 4.1 | changes of one voter | `confchange.simple` |
| 6 | 4.2.1 | learners | `confchange.simple`; when to promote: `node/driver/membership_changes.py` |
| 6 | 4.2.2 | a leader that is removed | `reconfiguration.apply_conf_change` |
| 6 | 4.2.3 | disruptive servers | `election.in_lease` |
| 7 | 5.1 | snapshots | `replication.send_append`, `reconfiguration.handle_snapshot` |
| 8 | 6.2 | a leader without a quorum | `tracker.Tracker.quorum_active` |
| 8 | 6.3 | a command is applied once | not in the core: `node/proposals.py` |
| 8 | 6.4 | linearizable reads | `read_index.handle_read_index`, `read_rounds.ReadIndexRounds` |
| | 6.4.1 | reads by lease | `read_index.handle_read_index`, `config.ReadOnlyOption` |
| | 9.6 | PreVote | `election.campaign`, `raft.become_pre_candidate` |
| | 10.2.1 | the leader writes while it sends | `replication.append` |
| | 10.2.2 | pipelining, flow control | `progress.Progress`, `progress.Inflights` |

One difference from the paper matters everywhere: a configuration takes effect when its entry is applied, not
when it is appended. `reconfiguration.py` says why this is safe.

What differs from etcd's raft
=============================

The core answers etcd's recorded transcripts to the letter, log lines included (`tests/conformance`). It
differs in the defaults of `Config`, and in behaviour that no transcript shows.

Flags of `Config`, on by default, that etcd does not have:

- `durable_campaigns`: a candidate asks for votes when its own term and vote are durable. In etcd it asks at
  once: it may win without its own vote, crash, forget the term, and win it again with other entries.
- `votes_tell_commit`: each vote request, and each answer to one, tells the last entry that its sender knows
  to be committed, as in raft-rs. In etcd the node with the longest log may wait for ever for the votes of
  members that a committed change has removed, and that have ended; and for ever all wait for a learner with
  the longest log that does not know that it is a voter.
- `durable_conf_changes`: a leader tells that a conf change is committed when it has written that down. In
  etcd it may tell, crash, and forget the commit; then it waits for the votes of the members that it removed.
- `space_probes`: entries that a follower does not acknowledge are sent again at growing intervals. In etcd
  they are sent again with every answer to a heartbeat.

Flags that are off in etcd by default and on here: `check_quorum`, `pre_vote`, `step_down_on_removal`.

Behaviour:

- ReadIndex: the leader numbers its rounds. In etcd the caller's context names a round, so two reads of one
  context are confused.
- Reads by lease: once the leader has told another node to campaign, each read needs a round of heartbeats.
  In etcd the lease counts during a leadership transfer too.
- A single voter answers reads after the first commit of its term, as every leader does. In etcd: at once.
- A snapshot is sent only to a member that it names. Storage has to make a newer one for a new member.
- A conf change that does not fit the configuration becomes an empty entry on the leader. In etcd it makes
  every node panic that applies it.
- `max_uncommitted_bytes` counts and releases only entries of the leader's own term. In etcd the entries that
  it inherited are released without having been counted.
- A message that no correct member can have sent raises `StepError` and changes nothing (`inbound.py`), and
  storage that lost acknowledged entries raises `InvalidState` or `InvalidMessage`. In etcd such messages are
  ignored or make the node panic.
"""

from raftkv_trio.errors import RaftError
from raftkv_trio.raft.confchange import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Transition,
    decode_conf_change,
)
from raftkv_trio.raft.config import Config, ReadOnlyOption
from raftkv_trio.raft.errors import (
    AcknowledgedEntriesLost,
    Compacted,
    ForwardingDisabled,
    InvalidConfiguration,
    InvalidMessage,
    InvalidState,
    LeaderUnknown,
    LocalMessage,
    LogError,
    NotAMember,
    PeerNotFound,
    ProposalDropped,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    StepError,
    TransferInProgress,
    Unavailable,
    UncommittedLimit,
)
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.status import ProgressStatus, Status
from raftkv_trio.raft.storage import MemoryStorage, Storage
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Ready,
    Snapshot,
    SoftState,
    StateRole,
)

__all__ = [
    "APPEND_THREAD",
    "APPLY_THREAD",
    "AcknowledgedEntriesLost",
    "Compacted",
    "ConfChange",
    "ConfChangeSingle",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "Entry",
    "EntryType",
    "ForwardingDisabled",
    "HardState",
    "InvalidConfiguration",
    "InvalidMessage",
    "InvalidState",
    "LeaderUnknown",
    "LocalMessage",
    "LogError",
    "MemoryStorage",
    "Message",
    "MessageType",
    "NotAMember",
    "PeerNotFound",
    "ProgressState",
    "ProgressStatus",
    "ProposalDropped",
    "RaftError",
    "RawNode",
    "ReadOnlyOption",
    "ReadState",
    "Ready",
    "Snapshot",
    "SnapshotOutOfDate",
    "SnapshotTemporarilyUnavailable",
    "SoftState",
    "StateRole",
    "Status",
    "StepError",
    "Storage",
    "TransferInProgress",
    "Transition",
    "Unavailable",
    "UncommittedLimit",
    "decode_conf_change",
]
