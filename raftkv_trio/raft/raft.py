"""One node's state, its outbox, and the change of its role; who acts on messages lives in the modules above.

Invariants (paper, figure 2): the term never falls; a vote is never changed within a term; messages that
promise something (votes, requests for them, acknowledgements of appends) wait in `after_append` until what
they promise is durable.
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

#: Context of the votes of a campaign that a leader asked for: they are not held up by its lease.
CAMPAIGN_TRANSFER = b"CampaignTransfer"

#: What other nodes rely on once they hear it; what it says must be durable before it leaves.
_PROMISES = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})
#: Forwarded on behalf of a client: of no term.
_WITHOUT_TERM = frozenset({MessageType.PROP, MessageType.READ_INDEX})


def silent_logger() -> logging.Logger:
    """A logger that tells nobody and belongs to no hierarchy."""
    logger = logging.Logger("raftkv_trio.raft")
    logger.disabled = True
    return logger


class Raft:
    """The state of one node (paper, figure 2, and what etcd's raft adds to it).

    Attributes:
        messages: may leave at once.
        after_append: may leave when everything handed out so far is durable; those to this node are stepped
            then.
        transferee: whom this leader is handing over to.
        lease_broken: this leader has told somebody to campaign in this term, past every lease.
        pending_conf_index: no conf change may be proposed before this index is applied.
        unwritten_commit: up to here a quorum has the log; it is committed when that is written down.
        uncommitted_bytes: data bytes of this term's proposals that are not applied; entries from `own_index`
            on count.
        randomized_election_ticks: this election timeout.
    """

    def __init__(self, config: Config, storage: Storage) -> None:
        self.config = config
        self.id = config.id
        self.logger = config.logger or silent_logger()
        max_applying_bytes = config.max_committed_bytes_per_ready or config.max_message_bytes or 1
        self.log = RaftLog(storage, self.logger, max_applying_bytes)
        self.tracker = Tracker(config.max_inflight_messages, config.max_inflight_bytes)
        self.reads = ReadIndexRounds(config.id)
        self.term = 0
        self.vote: int | None = None
        self.leader_id: int | None = None
        self.role = StateRole.FOLLOWER
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = config.election_ticks
        self.transferee: int | None = None
        self.lease_broken = False
        self.pending_conf_index = 0
        self.unwritten_commit = 0
        self.uncommitted_bytes = 0
        self.own_index = 0
        self._promises = _PROMISES | {MessageType.VOTE} if config.durable_campaigns else _PROMISES
        self._load(storage)

    def _load(self, storage: Storage) -> None:
        hard_state, conf_state = storage.initial_state()
        self.tracker.switch(conf_state, self.log.last_index())
        self.logger.info(texts.SWITCHED_CONFIGURATION, self.id, describe(self.tracker.conf_state))
        if hard_state != HardState():
            if not self.log.committed <= hard_state.commit <= self.log.last_index():
                raise InvalidState(
                    f"the saved commit index {hard_state.commit} is not from {self.log.committed} to "
                    f"{self.log.last_index()}, where the log is"
                )
            self.term, self.vote, self.log.committed = hard_state
        if self.config.applied is not None:
            self.log.applied_to(self.config.applied, 0)
        become_follower(self, self.term, None)
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
        return HardState(self.term, self.vote, max(self.log.committed, self.unwritten_commit))

    def soft_state(self) -> SoftState:
        return SoftState(self.leader_id, self.role)

    @property
    def conf_state(self) -> ConfState:
        return self.tracker.conf_state

    @property
    def promotable(self) -> bool:
        """Whether this node may campaign: a voter, and not in the middle of installing a snapshot."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.unstable.snapshot is None

    def send(self, message: Message) -> None:
        """Queue `message`, with this node's term unless it has one, where its kind has to wait."""
        kind = message.type
        if not message.term and kind not in _WITHOUT_TERM:
            message.term = self.term
        (self.after_append if kind in self._promises else self.messages).append(message)

    def reply(self, kind: MessageType, to: int) -> Message:
        """A message from this node, to be filled in and sent."""
        return Message(type=kind, to=to, from_=self.id)


# ---------------------------------------------------------------- roles


def become_follower(raft: Raft, term: int, leader_id: int | None) -> None:
    """Follow `leader_id`, or nobody yet, in `term`."""
    reset(raft, term)
    raft.leader_id = leader_id
    raft.role = StateRole.FOLLOWER
    raft.logger.info(texts.BECAME_FOLLOWER, raft.id, raft.term)


def become_candidate(raft: Raft) -> None:
    """Begin a term of our own and vote for ourselves (paper, section 5.2)."""
    reset(raft, raft.term + 1)
    raft.vote = raft.id
    raft.role = StateRole.CANDIDATE
    raft.logger.info(texts.BECAME_CANDIDATE, raft.id, raft.term)


def become_pre_candidate(raft: Raft) -> None:
    """Ask before beginning a term: neither term nor vote changes (dissertation, section 9.6)."""
    raft.tracker.votes = {}
    raft.leader_id = None
    raft.role = StateRole.PRE_CANDIDATE
    raft.logger.info(texts.BECAME_PRE_CANDIDATE, raft.id, raft.term)


def reset(raft: Raft, term: int) -> None:
    """What every change of role but that to pre-candidate forgets; a new term also forgets the vote."""
    if raft.term != term:
        raft.term = term
        raft.vote = None
    raft.leader_id = None
    raft.election_elapsed = 0
    raft.heartbeat_elapsed = 0
    ticks = raft.config.election_ticks
    raft.randomized_election_ticks = ticks + raft.config.random.randrange(ticks)
    raft.transferee = None
    raft.lease_broken = False
    raft.pending_conf_index = 0
    raft.uncommitted_bytes = 0
    raft.own_index = raft.log.last_index() + 1
    raft.tracker.reset(raft.id, raft.log.last_index())
    raft.reads.clear()
