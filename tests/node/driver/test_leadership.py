"""Leadership transfer on real cores: to which member it goes, and what becomes of a request."""

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.sync import Wakeup
from tests.node.clocks import StillClock
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap

TIMEOUT_S = 1.0


class Cluster:
    """Cores of which node 1 leads, and that leader's `LeadershipTransfer`.

    Attributes:
        behind: nodes that get no entries any more.
    """

    def __init__(self, *voters: int, learners: tuple[int, ...] = ()) -> None:
        self.clock = StillClock()
        self.active = ActiveMembers(1, self.clock, TIMEOUT_S)
        self.behind: set[int] = set()
        self.network = Network(snapshot=bootstrap(voters, learners))
        self.network.lost = self._is_lost
        raw = self.network[1].raw
        self.transfer = LeadershipTransfer(raw, Wakeup(), self.clock, self.active, TIMEOUT_S)
        self.network.elect(1)

    @property
    def leader_id(self) -> int:
        return self.network.leader.id

    @property
    def transferee(self) -> int | None:
        return self.network[1].raw.status().transferee

    def write(self) -> None:
        self.network[1].raw.propose(b"entry")
        self.network.settle()

    def turn(self) -> None:
        self.transfer.begin_if_requested()
        self.network.settle()

    def _is_lost(self, message: Message) -> bool:
        is_lost = message.type is MessageType.APP and message.to in self.behind
        if not is_lost and message.to == 1:
            self.active.heard(message.from_)
        return is_lost


def test_it_goes_to_the_voter_with_most_of_the_log() -> None:
    """That one needs the least before it may campaign."""
    cluster = Cluster(1, 2, 3)
    cluster.behind = {2}
    cluster.write()
    cluster.behind = set()
    cluster.transfer.request()
    cluster.turn()
    assert cluster.leader_id == 3


def test_a_learner_and_a_silent_voter_are_no_targets() -> None:
    """The request stays pending until a voter is active; then it is carried out."""
    cluster = Cluster(1, 2, 3, learners=(4,))
    cluster.clock.now_s += 2 * TIMEOUT_S
    cluster.active.heard(4)
    cluster.transfer.request()
    cluster.turn()
    assert (cluster.leader_id, cluster.transferee) == (1, None)
    cluster.active.heard(3)
    cluster.turn()
    assert cluster.leader_id == 3


def test_a_given_target_is_waited_for() -> None:
    """No other voter takes its place, however much of the log it has."""
    cluster = Cluster(1, 2, 3)
    cluster.clock.now_s += 2 * TIMEOUT_S
    cluster.active.heard(2)
    cluster.transfer.request(3)
    cluster.turn()
    assert (cluster.leader_id, cluster.transferee) == (1, None)
    cluster.active.heard(3)
    cluster.turn()
    assert cluster.leader_id == 3


def test_a_request_ends_with_the_leadership_or_when_it_is_withdrawn() -> None:
    """A node that is elected again later leads on."""
    cluster = Cluster(1, 2, 3)
    cluster.transfer.request()
    cluster.transfer.withdraw()
    cluster.turn()
    assert cluster.leader_id == 1
    cluster.network.elect(2)
    cluster.transfer.request()
    cluster.turn()
    cluster.network.elect(1)
    cluster.turn()
    assert cluster.leader_id == 1


def test_a_write_that_takes_an_election_timeout_is_a_request() -> None:
    """A disk that is only slow is not; nor is one that writes nothing."""
    cluster = Cluster(1, 2, 3)
    cluster.clock.now_s = TIMEOUT_S
    for node_id in (2, 3):
        cluster.active.heard(node_id)
    cluster.transfer.tick(None)
    cluster.transfer.tick(0.0)
    cluster.turn()
    assert cluster.leader_id == 1
    cluster.clock.now_s += 0.1
    cluster.transfer.tick(0.0)
    cluster.turn()
    assert cluster.leader_id != 1


def test_a_failed_transfer_is_given_up() -> None:
    """If the target gets no entries, the core takes proposals again after an election timeout."""
    cluster = Cluster(1, 2, 3)
    cluster.behind = {2}
    cluster.write()
    cluster.transfer.request(2)
    cluster.turn()
    states = [(cluster.leader_id, cluster.transferee)]
    cluster.network.tick(ELECTION_TICKS)
    cluster.network.settle()
    cluster.turn()
    states.append((cluster.leader_id, cluster.transferee))
    assert states == [(1, 2), (1, None)]
    cluster.write()


def test_a_member_heard_only_before_this_node_led_is_no_candidate() -> None:
    """The leader before may have just stopped; it was heard from, and has answered this leader nothing."""
    cluster = Cluster(1, 2, 3)
    cluster.network.elect(2)
    cluster.network.lost = lambda message: message.to == 1 and message.from_ == 2
    cluster.network.elect(1)
    cluster.active.heard(2)
    cluster.transfer.request(2)
    cluster.turn()
    assert cluster.transferee is None
    assert cluster.leader_id == 1
