"""The configuration of one core: frozen, and checked when it is made."""

import logging
import random
from dataclasses import dataclass
from enum import Enum

from raftkv_trio.errors import ConfigError


class ReadOnlyOption(Enum):
    """How a leader makes sure that it still leads before it answers a read (dissertation, section 6.4)."""

    #: By a round of heartbeats that a quorum answers. It depends on no clock.
    SAFE = "safe"
    #: By the lease that CheckQuorum implies. Reads may be stale after a pause, or if clocks drift.
    LEASE_BASED = "lease-based"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One core's configuration.

    Attributes:
        id: this node, a positive integer.
        random: draws the randomized election timeouts, and nothing else.
        election_ticks: ticks without a message from a leader before an election. Each timeout is drawn from
            `election_ticks .. 2 * election_ticks - 1`.
        heartbeat_ticks: ticks between a leader's heartbeats.
        applied: the last index that the state machine has applied; None: that of storage's snapshot.
        async_storage_writes: hand out storage work as messages (see the contract of `Ready`).
        max_message_bytes: the most bytes of entries in one APP; a single entry may be larger.
        max_message_entries: the most entries in one APP; None: no limit.
        max_committed_bytes_per_ready: the most bytes of committed entries that are handed out and not yet
            applied; None: as `max_message_bytes`.
        max_uncommitted_bytes: the most bytes of proposals that the leader has not seen applied; None: no
            limit.
        max_inflight_messages: the most APPs to one follower that are not answered yet.
        max_inflight_bytes: the most bytes in these APPs; None: no limit.
        check_quorum: a leader steps down if no quorum answers for an election timeout, and a node does not
            vote within an election timeout after it has heard from a leader.
        pre_vote: ask for votes before a new term begins (dissertation, section 9.6).
        durable_campaigns: a candidate asks for votes when its own term and vote are durable. Without it, as
            in etcd's raft, a candidate may win without its own vote, forget the term in a crash, and win the
            same term again with other entries.
        votes_tell_commit: vote requests and their answers tell what is committed. Without it, as in etcd's
            raft, the node with the longest log may wait for ever for the votes of members that a committed
            change has removed, or all others for it, if it does not know that it has become a voter.
        durable_conf_changes: a leader regards a conf change as committed when it has written that down.
            Without it, as in etcd's raft, members that the change removes can hear of the commit, and end,
            while the leader forgets it in a crash and waits for ever for their votes. Requires the validation
            of conf changes.
        space_probes: a follower that acknowledges nothing is sent the same entries again after a heartbeat
            interval, and then at doubled intervals up to an election timeout. Without it, as in etcd's raft,
            it is sent them with every answer to a heartbeat, and each read sends heartbeats.
        step_down_on_removal: a leader that is removed or demoted becomes a follower at once.
        disable_proposal_forwarding: a follower refuses proposals instead of sending them to the leader.
        disable_conf_change_validation: append conf changes even if the applied configuration forbids them.
        initial_election_ticks_left: ticks to the first election after the start; None: a whole timeout.
        logger: logs what happens, in the words of etcd's raft (`texts.py`); None: nothing is logged.

    Raises:
        ConfigError: a value is out of its range, or contradicts another one.
    """

    id: int
    random: random.Random
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    applied: int | None = None
    async_storage_writes: bool = False
    max_message_bytes: int = 1024 * 1024
    max_message_entries: int | None = None
    max_committed_bytes_per_ready: int | None = None
    max_uncommitted_bytes: int | None = None
    max_inflight_messages: int = 256
    max_inflight_bytes: int | None = None
    check_quorum: bool = True
    pre_vote: bool = True
    durable_campaigns: bool = True
    votes_tell_commit: bool = True
    durable_conf_changes: bool = True
    space_probes: bool = True
    step_down_on_removal: bool = True
    read_only: ReadOnlyOption = ReadOnlyOption.SAFE
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    initial_election_ticks_left: int | None = None
    logger: logging.Logger | None = None

    def __post_init__(self) -> None:
        if self.id <= 0:
            raise ConfigError(f"node id {self.id} is not a positive integer")
        if self.heartbeat_ticks <= 0:
            raise ConfigError("a heartbeat must be at least one tick")
        # Otherwise followers would campaign between two heartbeats of a healthy leader (section 5.6).
        if self.election_ticks <= self.heartbeat_ticks:
            raise ConfigError("an election timeout must be more ticks than a heartbeat")
        if self.applied is not None and self.applied < 0:
            raise ConfigError("the applied index must not be negative")
        if self.max_message_bytes < 0:
            raise ConfigError("max_message_bytes must not be negative")
        for name in (
            "max_message_entries",
            "max_committed_bytes_per_ready",
            "max_uncommitted_bytes",
            "max_inflight_messages",
        ):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ConfigError(f"{name} must be positive")
        # Otherwise a single full message would exceed the limit, and no second one could be in flight.
        if self.max_inflight_bytes is not None and self.max_inflight_bytes < self.max_message_bytes:
            raise ConfigError("max_inflight_bytes must hold at least one message of max_message_bytes")
        # CheckQuorum is the lease: without it, followers vote while a leader is alive, and a leader without a
        # quorum goes on answering.
        if self.read_only is ReadOnlyOption.LEASE_BASED and not self.check_quorum:
            raise ConfigError("lease-based reads need check_quorum")
        if self.initial_election_ticks_left is not None and self.initial_election_ticks_left < 0:
            raise ConfigError("initial_election_ticks_left must not be negative")
