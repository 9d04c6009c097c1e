"""Which members a leader takes for active, on real cores and simulated time."""

from typing import Any

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.raft.types import Message, MessageType
from tests.node.clocks import StillClock
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap

TICK_S = 0.1
TIMEOUT_S = ELECTION_TICKS * TICK_S
ACKNOWLEDGE_TICKS = 3 * ELECTION_TICKS


class Cluster:
    """Three cores of which node 1 leads, and what that leader knows of the others.

    Attributes:
        full: nodes to which no entries get through; they answer heartbeats.
        allowed: how many appends with entries get through to them nevertheless.
    """

    def __init__(self, **settings: Any) -> None:
        self.clock = StillClock()
        self.full: set[int] = set()
        self.allowed = 0
        self.network = Network(snapshot=bootstrap((1, 2, 3)), **settings)
        self.active = ActiveMembers(self.network[1].raw, self.clock, TIMEOUT_S)
        self.network.lost = self._is_lost
        self.network.elect(1)

    @property
    def seen(self) -> set[int]:
        return {node_id for node_id in (1, 2, 3) if node_id in self.active}

    def write(self) -> None:
        self.network[1].raw.propose(b"entry")
        self.network.settle()

    def tick(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.now_s += TICK_S
            self.network[1].raw.tick()
            self.active.tick()
            self.network.settle()

    def _is_lost(self, message: Message) -> bool:
        is_lost = message.type is MessageType.APP and message.to in self.full and bool(message.entries)
        if is_lost and self.allowed:
            self.allowed -= 1
            is_lost = False
        if not is_lost and message.to == 1:
            self.active.heard(message.from_)
        return is_lost


def test_a_member_that_answers_but_acknowledges_nothing_is_not_active() -> None:
    """As one whose disk is full; it still responds. It is active again once it catches up."""
    cluster = Cluster()
    cluster.full = {3}
    cluster.write()
    cluster.tick(ACKNOWLEDGE_TICKS + 2)
    assert cluster.seen == {1, 2}
    assert cluster.active.responds(3)
    cluster.full = set()
    cluster.tick(ELECTION_TICKS + 1)  # in which the leader tries again
    assert cluster.seen == {1, 2, 3}


def test_members_stay_active_while_nothing_is_written() -> None:
    """They have acknowledged all that there is."""
    cluster = Cluster()
    cluster.write()
    cluster.tick(5 * ELECTION_TICKS)
    assert cluster.seen == {1, 2, 3}


def test_a_member_whose_acknowledgement_takes_more_than_an_election_timeout_stays_active() -> None:
    """One large value on a slow link, or a slow disk: meanwhile it answers every heartbeat."""
    cluster = Cluster()
    cluster.tick(2 * ACKNOWLEDGE_TICKS)
    for _ in range(3):
        cluster.full = {3}
        cluster.write()
        for ticks in range(ACKNOWLEDGE_TICKS - 2):
            if ticks == ELECTION_TICKS + 5:
                cluster.full = set()
            cluster.tick(1)
            assert cluster.seen == {1, 2, 3}
        status = cluster.network[1].raw.status()
        assert status.progress[3].match == cluster.network[1].raw.last_index


def test_a_member_that_lags_behind_and_goes_on_is_active() -> None:
    """It acknowledges something new, though it lacks much that is older than an election timeout."""
    cluster = Cluster(max_message_bytes=0)
    cluster.full = {3}
    for _ in range(3 * ELECTION_TICKS):
        cluster.write()
    cluster.tick(ACKNOWLEDGE_TICKS + 2)
    assert cluster.seen == {1, 2}
    for _ in range(5):
        cluster.allowed = 1
        cluster.write()
        cluster.tick(1)
    behind = cluster.network[1].raw.last_index - cluster.network[1].raw.status().progress[3].match
    assert behind > ELECTION_TICKS
    assert cluster.seen == {1, 2, 3}


def test_a_silent_member_is_not_active() -> None:
    """Whatever it has acknowledged."""
    cluster = Cluster()
    cluster.write()
    cluster.network.isolated = {3}
    cluster.tick(ELECTION_TICKS + 2)
    assert cluster.seen == {1, 2}
    assert not cluster.active.responds(3)
