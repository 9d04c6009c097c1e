"""Leadership transfer on real cores: to which member it goes, and what becomes of a request."""

from random import Random

import pytest

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.sync import Wakeup
from tests.node.clocks import StillClock
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap

TIMEOUT_S = 1.0


class Cluster:
    """Cores of which node 1 leads, and that leader's `LeadershipTransfer`.

    Attributes:
        behind: nodes that get no entries any more.
        unwilling: nodes that do not campaign when they are asked to.
    """

    def __init__(self, *voters: int, learners: tuple[int, ...] = ()) -> None:
        self.clock = StillClock()
        self.behind: set[int] = set()
        self.unwilling: set[int] = set()
        self.network = Network(snapshot=bootstrap(voters, learners))
        self.network.lost = self._is_lost
        raw = self.network[1].raw
        self.active = ActiveMembers(raw, self.clock, TIMEOUT_S)
        wakeup = Wakeup()
        self.proposals = ProposalTable(
            node_id=1,
            random=Random(1),
            wakeup=wakeup,
            max_command_bytes=1000,
            max_count=10,
            max_bytes=1000,
        )
        self.transfer = LeadershipTransfer(raw, wakeup, self.clock, self.active, self.proposals, TIMEOUT_S)
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
        self.transfer.begin_if_wanted()
        self.network.settle()

    def pause(self, seconds: float) -> None:
        """Let less than an election timeout pass for the leader only, and its driver take a turn."""
        self.clock.now_s += seconds
        self.turn()

    def election_timeout(self) -> None:
        """Let an election timeout pass for the leader only, and its driver take a turn."""
        self.clock.now_s += TIMEOUT_S
        for _ in range(ELECTION_TICKS):
            self.network[1].raw.tick()
            self.network.settle()
        self.turn()

    def _is_lost(self, message: Message) -> bool:
        is_lost = (message.type is MessageType.APP and message.to in self.behind) or (
            message.type is MessageType.TIMEOUT_NOW and message.to in self.unwilling
        )
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
    cluster.transfer.withdraw(cluster.transfer.request())
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
    request = cluster.transfer.request(2)
    cluster.turn()
    states = [(cluster.leader_id, cluster.transferee)]
    cluster.transfer.withdraw(request)
    cluster.election_timeout()
    states.append((cluster.leader_id, cluster.transferee))
    assert states == [(1, 2), (1, None)]
    cluster.write()


@pytest.mark.parametrize("reason", ["disk", "resigned"])
def test_a_node_that_should_not_lead_transfers_leadership_whenever_it_is_elected(reason: str) -> None:
    """The reason was there before the election, when there was nothing to transfer."""
    cluster = Cluster(1, 2, 3)
    cluster.network.elect(2)
    if reason == "disk":
        cluster.proposals.disk_shortage = "the disk has no room"
    else:
        cluster.transfer.resign()
    for _ in range(2):
        cluster.turn()
        cluster.network.elect(1)
        cluster.turn()
        assert cluster.leader_id != 1
    cluster.proposals.disk_shortage = None
    cluster.network.elect(1)
    cluster.turn()
    assert (cluster.leader_id == 1) is (reason == "disk")


@pytest.mark.parametrize("obstacle", ["silent", "unwilling"])
def test_a_request_that_cannot_be_fulfilled_is_not_waited_for_by_a_node_that_should_not_lead(
    obstacle: str,
) -> None:
    """The operator's choice comes first; if it does not take over, any other voter may."""
    cluster = Cluster(1, 2, 3)
    if obstacle == "silent":
        cluster.clock.now_s += 2 * TIMEOUT_S
        cluster.active.heard(2)
    else:
        cluster.unwilling = {3}
    cluster.transfer.request(3)
    cluster.turn()
    assert (cluster.leader_id, cluster.transferee) == (1, None if obstacle == "silent" else 3)
    cluster.proposals.disk_shortage = "the disk has no room"
    if obstacle == "unwilling":
        cluster.election_timeout()
    cluster.turn()
    assert cluster.leader_id == 2


def test_a_node_that_should_not_lead_transfers_leadership_to_the_requested_voter_if_it_can_lead() -> None:
    """Though the other voter has a lower id."""
    cluster = Cluster(1, 2, 3)
    cluster.proposals.disk_shortage = "the disk has no room"
    cluster.transfer.request(3)
    cluster.turn()
    assert cluster.leader_id == 3


def test_a_candidate_that_does_not_take_over_is_followed_by_the_next() -> None:
    """With no candidate left there is a pause, in which writes are taken, and then all are tried again."""
    cluster = Cluster(1, 2, 3)
    cluster.unwilling = {2, 3}
    cluster.transfer.request()
    cluster.turn()
    seen = [cluster.transferee]
    for _ in range(3):
        cluster.election_timeout()
        seen.append(cluster.transferee)
        if cluster.transferee is None:
            cluster.write()
    assert seen == [2, 3, None, 2]
    cluster.unwilling = {2}
    cluster.election_timeout()
    assert cluster.leader_id == 3


def test_the_next_candidate_is_asked_before_a_server_that_shuts_down_gives_up() -> None:
    """One that ignores the request to campaign is not waited for until the core gives the transfer up."""
    cluster = Cluster(1, 2, 3)
    cluster.unwilling = {2}
    cluster.transfer.resign()
    cluster.turn()
    cluster.pause(0.2 * TIMEOUT_S)
    assert (cluster.leader_id, cluster.transferee) == (1, 2)
    cluster.pause(0.1 * TIMEOUT_S)
    assert cluster.leader_id == 3


def test_the_last_candidate_and_the_only_one_asked_for_are_waited_for() -> None:
    """There is nobody else to ask: the core gives that transfer up, and writes get their turn."""
    cluster = Cluster(1, 2, 3)
    cluster.unwilling = {2, 3}
    request = cluster.transfer.request(2)
    seen = []
    for _ in range(2):
        cluster.turn()
        cluster.pause(0.5 * TIMEOUT_S)
        seen.append(cluster.transferee)
        cluster.transfer.withdraw(request)
        cluster.transfer.resign()
    cluster.pause(0.5 * TIMEOUT_S)
    assert [*seen, cluster.transferee] == [2, 3, 3]
    cluster.election_timeout()
    assert cluster.transferee is None
    cluster.write()


def test_a_candidate_that_still_lacks_entries_is_waited_for() -> None:
    """It has not been asked to campaign yet; its patience begins when it is."""
    cluster = Cluster(1, 2, 3)
    cluster.network.isolated = {3}
    cluster.behind = {2}
    cluster.write()
    cluster.network.isolated = set()
    cluster.behind = {2, 3}
    cluster.transfer.resign()
    cluster.turn()
    cluster.pause(0.5 * TIMEOUT_S)
    assert cluster.transferee == 2
    cluster.unwilling = {2}
    cluster.behind = {3}
    cluster.network[1].raw.tick()
    cluster.network.settle()
    cluster.turn()
    cluster.pause(0.2 * TIMEOUT_S)
    assert cluster.transferee == 2
    cluster.pause(0.1 * TIMEOUT_S)
    assert cluster.transferee == 3


def test_a_transfer_under_way_is_left_alone() -> None:
    """Another turn does not begin it anew, nor does a later request abort it; that one is next."""
    cluster = Cluster(1, 2, 3)
    cluster.unwilling = {2, 3}
    first = cluster.transfer.request(2)
    cluster.turn()
    cluster.transfer.request(3)
    cluster.transfer.withdraw(first)
    cluster.turn()
    assert cluster.transferee == 2
    cluster.election_timeout()
    assert cluster.transferee == 3


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
