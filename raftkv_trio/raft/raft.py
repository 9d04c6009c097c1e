"""One node's state, its outgoing messages, and the changes of its role. Other modules act on messages.

Invariants (paper, figure 2): the term never decreases; a vote never changes within a term; a message that
promises something waits in `after_append` until what it promises is durable.
"""

import logging

from raftkv_trio.raft import texts
from raftkv_trio.raft.confchange import describe
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.errors import InvalidState
from raftkv_trio.raft.log import RaftLog
from raftkv_trio.raft.read_rounds import ReadIndexRounds
from raftkv_trio.raft.storage import Storage
from raftkv_trio.raft.tracker import Tracker
from raftkv_trio.raft.types import (
    ConfState,
    HardState,
    Message,
    MessageType,
    ReadState,
    SoftState,
    StateRole,
)

#: Context of the vote requests of a campaign that a leader asked for. Its own lease does not stop them.
CAMPAIGN_TRANSFER = b"CampaignTransfer"

#: Other nodes rely on these once they receive them, so what they say must be durable before they leave. A
#: node must not vote twice in a term, or lose an entry that a leader has counted (dissertation 3.8).
#: PRE_VOTE_RESP promises nothing; it is held back with the votes, as in etcd's raft.
_PROMISES = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})
#: Forwarded for a client. They belong to no term, so that a leader of any term accepts them.
_WITHOUT_TERM = frozenset({MessageType.PROP, MessageType.READ_INDEX})


def silent_logger() -> logging.Logger:
    """A logger that drops everything and belongs to no hierarchy."""
    logger = logging.Logger("raftkv_trio.raft")
    logger.disabled = True
    return logger


class Raft:
    """The state of one node (paper, figure 2, and what etcd's raft adds to it).

    Attributes:
        messages: messages that may leave at once.
        after_append: messages that may leave when everything handed out so far is durable. Those to this node
            are stepped then.
        transferee: the node that this leader is transferring leadership to; None: no transfer is under way.
        lease_broken: this leader has told another node to campaign in this term, past every lease.
        pending_conf_index: no conf change may be proposed before this index is applied.
        unwritten_commit: a quorum has the log up to this index, but it counts as committed only when this
            node has written that down (`Config.durable_conf_changes`).
        uncommitted_bytes: data bytes of this term's proposals that are not applied yet.
        own_index: the first index of this leader's term. Entries from there on count in `uncommitted_bytes`.
        randomized_election_ticks: the election timeout that was drawn last.
    """

    def __init__(self, config: Config, storage: Storage) -> None:
        self.config = config
        self.id = config.id
        self.logger = config.logger or silent_logger()
        max_applying_bytes = config.max_committed_bytes_per_ready or config.max_message_bytes or 1
        self.log = RaftLog(storage, self.logger, max_applying_bytes)
        self.tracker = Tracker(config.max_inflight_messages, config.max_inflight_bytes)
        self.reads = ReadIndexRounds(config.id)
        # Persistent state (figure 2), with the log. It is durable when the write of its Ready is.
        self.term = 0
        self.vote: int | None = None
        # Everything from here on is volatile: a restarted node begins as a follower that knows nothing of it.
        self.leader_id: int | None = None
        self.role = StateRole.FOLLOWER
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = config.election_ticks
        # A leader's state. `reset` clears it, except `unwritten_commit`: what is committed stays so. The
        # progress of followers is in `tracker`.
        self.transferee: int | None = None
        self.lease_broken = False
        self.pending_conf_index = 0
        self.unwritten_commit = 0
        self.uncommitted_bytes = 0
        self.own_index = 0
        # A candidate of five may win with three votes of others. If it had not written down its own term, it
        # could crash, forget the term, campaign in it again, get the same votes again, and append other
        # entries under the same indexes: Log Matching (section 5.3) would no longer hold.
        self._promises = _PROMISES | {MessageType.VOTE} if config.durable_campaigns else _PROMISES
        self._load(storage)

    def _load(self, storage: Storage) -> None:
        hard_state, conf_state = storage.initial_state()
        # The configuration as of the applied index. Changes behind it come again when their entries are
        # applied.
        self.tracker.switch(conf_state, self.log.last_index())
        self.logger.info(texts.SWITCHED_CONFIGURATION, self.id, describe(self.tracker.conf_state))
        if hard_state != HardState():
            # A commit index beyond the log means that acknowledged entries are lost. The node must not go on
            # to vote and acknowledge as if it had them.
            if not self.log.committed <= hard_state.commit <= self.log.last_index():
                raise InvalidState(
                    f"the saved commit index {hard_state.commit} is outside the log, which reaches from "
                    f"{self.log.committed} to {self.log.last_index()}"
                )
            self.term, self.vote, self.log.committed = hard_state
        # A state machine that is durable by itself may be further than the log's beginning. What it has
        # applied is not handed out again.
        if self.config.applied is not None:
            self.log.applied_to(self.config.applied, 0)
        # Nodes start as followers (section 5.2), former leaders too: leadership is not durable, and while the
        # node was down another one may have been elected.
        become_follower(self, self.term, None)
        # A short first timeout may make this node campaign while a leader is alive. PreVote makes that
        # harmless: the others refuse, and no term changes.
        left = self.config.initial_election_ticks_left
        if left is not None:
            self.election_elapsed = max(0, self.randomized_election_ticks - left)
        self.logger.info(
            texts.NEW_RAFT,
            self.id,
            ",".join(f"{i:x}" for i in self.tracker.voters()),
            self.term,
            self.log.committed,
            self.log.applied,
            self.log.last_index(),
            self.log.last_term(),
        )

    def hard_state(self) -> HardState:
        """What must be durable before a message that depends on it may leave."""
        # A commit that must be durable before it counts has to be in the hard state before it counts.
        return HardState(self.term, self.vote, max(self.log.committed, self.unwritten_commit))

    def soft_state(self) -> SoftState:
        """Leader and role, which need not be durable."""
        return SoftState(self.leader_id, self.role)

    @property
    def conf_state(self) -> ConfState:
        """The configuration in force: that of the last applied change."""
        return self.tracker.conf_state

    @property
    def promotable(self) -> bool:
        """Whether this node may campaign: it is a voter and is not installing a snapshot."""
        # While a snapshot is being installed, the entries from the applied index to the snapshot are neither
        # applied nor in the log, so it is not known which conf changes are among them (see `campaign`).
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.unstable.snapshot is None

    def send(self, message: Message) -> None:
        """Queue `message`, with this node's term unless it has one; promises wait for the disk."""
        kind = message.type
        # Votes set the term themselves: pre-votes name a term that this node is not in.
        if not message.term and kind not in _WITHOUT_TERM:
            message.term = self.term
        (self.after_append if kind in self._promises else self.messages).append(message)

    def reply(self, kind: MessageType, to: int) -> Message:
        """A new message from this node; the caller fills it in and sends it."""
        return Message(type=kind, to=to, from_=self.id)


# ---------------------------------------------------------------- roles


def become_follower(raft: Raft, term: int, leader_id: int | None) -> None:
    """Follow `leader_id` in `term`; None: no leader is known yet."""
    reset(raft, term)
    raft.leader_id = leader_id
    raft.role = StateRole.FOLLOWER
    raft.logger.info(texts.BECAME_FOLLOWER, raft.id, raft.term)


def become_candidate(raft: Raft) -> None:
    """Start a new term and vote for this node in it (paper, section 5.2)."""
    # The vote blocks every other candidate of this term here at once. It counts for this node's election only
    # when it is durable: then `_ask_for_votes`'s answer to itself is stepped.
    reset(raft, raft.term + 1)
    raft.vote = raft.id
    raft.role = StateRole.CANDIDATE
    raft.logger.info(texts.BECAME_CANDIDATE, raft.id, raft.term)


def become_pre_candidate(raft: Raft) -> None:
    """Ask first whether a campaign could succeed (dissertation, section 9.6)."""
    # No `reset`: neither term nor vote changes, so nothing has to be durable, and a node that cannot win does
    # not disturb the others. The leader is forgotten, so that this node grants the pre-votes of others, too.
    raft.tracker.votes = {}
    raft.leader_id = None
    raft.role = StateRole.PRE_CANDIDATE
    raft.logger.info(texts.BECAME_PRE_CANDIDATE, raft.id, raft.term)


def reset(raft: Raft, term: int) -> None:
    """Forget what belongs to the old role; every change of role but that to pre-candidate does so."""
    # The vote belongs to its term: forgotten earlier, this node could vote twice in one term (section 5.2).
    if raft.term != term:
        raft.term = term
        raft.vote = None
    raft.leader_id = None
    raft.election_elapsed = 0
    raft.heartbeat_elapsed = 0
    # A new timeout is drawn each time, so that nodes whose votes were split do not split them for ever
    # (section 5.2). None is shorter than `election_ticks`, which the lease in `election.in_lease` relies on.
    ticks = raft.config.election_ticks
    raft.randomized_election_ticks = ticks + raft.config.random.randrange(ticks)
    raft.transferee = None
    raft.lease_broken = False
    raft.pending_conf_index = 0
    raft.uncommitted_bytes = 0
    raft.own_index = raft.log.last_index() + 1
    # Our own match index is the end of the log though that may not be durable yet. This is safe: only an
    # entry of the leader's own term can commit by counting (section 5.4.2), those come behind this index, and
    # for those this node counts when its disk has answered (`replication.append`).
    raft.tracker.reset(raft.id, raft.log.last_index())
    # A round confirms the leader of one term; readers that got no answer ask again.
    raft.reads.clear()
