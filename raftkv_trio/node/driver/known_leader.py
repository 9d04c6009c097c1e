"""What this node knows of the leader: who it is, when it was last heard from, how often it changed."""

import logging

import trio

from raftkv_trio.raft.types import SoftState, StateRole
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)


class KnownLeader:
    """The leader that this node knows, if any; the driver keeps it up to date, all others read it.

    Attributes:
        changes: how often this node learnt of another leader than the one before.
        changed: set when the leader, or this node's role, changes; a new event takes its place then.
    """

    def __init__(self, clock: Clock) -> None:
        self.changes = 0
        self.changed = trio.Event()
        self._clock = clock
        self._last_leader_id: int | None = None
        self._is_own_node = False
        self._heard_at: float | None = None
        self._turned_at = clock.now()

    @property
    def contact_age_s(self) -> float | None:
        """Seconds since this node last heard from a leader; None before the first time."""
        # A leader hears itself, but only while its driver works: during a halt another may have been elected.
        heard_at = self._turned_at if self._is_own_node else self._heard_at
        return None if heard_at is None else self._clock.now() - heard_at

    # ------------------------------------------------------------ by the driver

    def heard(self) -> None:
        """A message of the leader of this term has come."""
        self._heard_at = self._clock.now()

    def turned(self) -> None:
        """A turn of the driver has ended."""
        self._turned_at = self._clock.now()

    def update(self, soft_state: SoftState, term: int) -> None:
        """The leader or this node's role has changed."""
        leader_id, role = soft_state
        logger.info(
            "%s at term %d, leader %s", role.name.lower(), term, "unknown" if leader_id is None else leader_id
        )
        # A leader becomes known by a message of it, or because it is this node itself.
        if leader_id is not None:
            self._heard_at = self._clock.now()
        elif self._is_own_node:
            self._heard_at = self._turned_at  # until then it heard itself, as in `contact_age_s`
        self._is_own_node = role is StateRole.LEADER
        # That no leader is known is not counted, nor that the same one is known again after that.
        if leader_id not in (None, self._last_leader_id):
            self._last_leader_id = leader_id
            self.changes += 1
        self.changed.set()
        self.changed = trio.Event()
