"""What a leader does about its members, on a real core and simulated time."""

from random import Random

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ChangeRefused
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.driver.membership_changes import Deferred, MembershipChanges
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.payload.cbor import MAX_MEMBERS
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange, Membership
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.confchange import is_joint
from raftkv_trio.raft.types import ConfState, EntryType, Message, MessageType
from raftkv_trio.sync import Wakeup
from tests.node.clocks import StillClock
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap

TICK_S = 0.1


def address(node_id: int) -> PeerAddress:
    return PeerAddress("127.0.0.1", node_id)


def adding(node_id: int, *, by_hand: bool = False) -> MemberChange:
    return MemberChange(Action.ADD, node_id, address(node_id), by_hand)


def removing(node_id: int) -> MemberChange:
    return MemberChange(Action.REMOVE, node_id)


class Cluster:
    """Cores that obey, of which node 1 leads, and that leader's `MembershipChanges`.

    Attributes:
        lost: messages of these kinds, to these nodes, do not arrive.
        wanted: how often a snapshot was wanted.
    """

    def __init__(self, *voters: int) -> None:
        self.clock = StillClock()
        self.network = Network(snapshot=bootstrap(voters))
        self.network.lost = self._is_lost
        self.lost: set[tuple[MessageType, int]] = set()
        self.wanted = 0
        core = self.network[1]
        envelope = Envelope.of({node_id: address(node_id) for node_id in voters})
        self.membership = Membership(envelope, core.configuration)
        timeout_s = ELECTION_TICKS * TICK_S
        self.active = ActiveMembers(core.raw, self.clock, timeout_s)
        wakeup = Wakeup()
        proposals = ProposalTable(
            node_id=1, random=Random(1), wakeup=wakeup, max_command_bytes=1000, max_count=10, max_bytes=1000
        )
        self.changes = MembershipChanges(
            1,
            core.raw,
            core.storage,
            self.membership,
            self.clock,
            self.active,
            LeadershipTransfer(core.raw, wakeup, self.clock, self.active, proposals, timeout_s),
            timeout_s,
            self._want,
        )
        self._applied = 0
        self.network.elect(1)
        self._apply()

    @property
    def configuration(self) -> ConfState:
        return self.network[1].configuration

    def ask(self, *changes: MemberChange, is_forced: bool = False) -> ChangeRefused | Deferred | None:
        """Ask the leader for a change, and let nothing happen yet."""
        return self.changes.append(ProposalId(1, 1, 1), ChangeRequest(changes, is_forced).encode())

    def settle(self) -> None:
        self.network.settle()
        self._apply()

    def tick(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.clock.now_s += TICK_S
            self.network.tick()
            self._apply()
            self.active.tick()
            self.changes.tick()
            self.settle()

    def take_snapshot(self) -> None:
        """What the snapshotter does: the log begins behind what is applied."""
        core = self.network[1]
        core.storage.create_snapshot(core.raw.applied, self.membership.conf_state, b"")
        core.storage.compact(core.raw.applied)

    def _want(self) -> None:
        self.wanted += 1

    def _apply(self) -> None:
        applied = self.network[1].applied
        for entry in applied[self._applied :]:
            if entry.type is not EntryType.NORMAL:
                self.membership.apply(entry)
        self._applied = len(applied)

    def _is_lost(self, message: Message) -> bool:
        is_lost = (message.type, message.to) in self.lost
        if not is_lost and message.to == 1:
            self.active.heard(message.from_)
        return is_lost


def test_a_snapshot_is_taken_for_a_newcomer() -> None:
    """The one that there is does not know it; from the next one on it catches up, and is promoted."""
    cluster = Cluster(1)
    assert cluster.ask(adding(2)) is None
    cluster.settle()
    cluster.tick(3)
    assert cluster.wanted == 0  # as long as nobody is there to receive it
    cluster.network.join(2)
    cluster.tick(3)
    assert cluster.wanted > 0
    assert cluster.configuration.learners == (2,)
    cluster.take_snapshot()
    cluster.tick(5)
    assert cluster.configuration == ConfState(voters=(1, 2))
    assert cluster.network[2].configuration == cluster.configuration


def test_a_learner_votes_after_a_short_round_only() -> None:
    """One that takes an election timeout to catch up has to do so again, in less, and goes on being heard."""
    cluster = Cluster(1)
    cluster.ask(adding(2))
    cluster.settle()
    cluster.network.join(2)
    cluster.lost = {(MessageType.APP_RESP, 1)}
    cluster.tick(2)
    cluster.take_snapshot()
    cluster.tick(ELECTION_TICKS + 2)
    assert cluster.active.responds(2)
    cluster.lost = set()
    cluster.network[1].raw.report_snapshot(2, ok=True)
    cluster.tick()
    assert cluster.network[1].raw.status().progress[2].match == cluster.network[1].raw.last_index
    assert cluster.configuration.learners == (2,)
    cluster.tick(2)
    assert cluster.configuration.voters == (1, 2)


def test_an_operator_who_wants_to_promote_is_waited_for() -> None:
    """A learner that has caught up stays one, and is promoted when that is asked for."""
    cluster = Cluster(1)
    cluster.ask(adding(2, by_hand=True))
    cluster.settle()
    cluster.network.join(2)
    promotion = MemberChange(Action.PROMOTE, 2)
    refused = cluster.ask(promotion)
    assert isinstance(refused, ChangeRefused)
    inactive = "node 2 has not caught up yet: it does not acknowledge new entries; see that it runs"
    assert str(refused) == f"{inactive}; retry later"
    cluster.tick(2)
    cluster.take_snapshot()
    cluster.tick(2 * ELECTION_TICKS)
    assert cluster.configuration.learners == (2,)
    assert cluster.ask(promotion) is None
    cluster.settle()
    assert cluster.configuration.voters == (1, 2)


def test_the_leader_is_left_what_the_leader_does() -> None:
    """A learner that is promoted by itself need not be asked for."""
    cluster = Cluster(1)
    cluster.ask(adding(2))
    cluster.settle()
    refused = cluster.ask(MemberChange(Action.PROMOTE, 2))
    assert str(refused).endswith("; retry later, or leave its promotion to the leader")


def test_a_change_waits_for_the_one_before_it() -> None:
    """Until that is applied it is not even looked at."""
    cluster = Cluster(1, 2, 3)
    assert cluster.ask(adding(4)) is None
    assert isinstance(cluster.ask(adding(4)), Deferred)
    cluster.settle()
    refused = cluster.ask(adding(4))
    assert isinstance(refused, ChangeRefused)
    assert "a member already" in str(refused)


def test_a_joint_configuration_that_a_transfer_held_up_is_left() -> None:
    """The core proposes to leave it as it applies, and is refused during a transfer; later the ticks do."""
    cluster = Cluster(1, 2, 3)
    cluster.lost = {(MessageType.TIMEOUT_NOW, 2)}
    assert cluster.ask(adding(4), removing(3)) is None
    cluster.network[1].raw.transfer_leader(2)
    cluster.settle()
    assert is_joint(cluster.configuration)
    cluster.tick(ELECTION_TICKS + 1)
    assert cluster.configuration == ConfState(voters=(1, 2), learners=(4,))
    assert list(cluster.membership.envelope.removed) == [3]


def test_the_leader_hands_over_before_it_removes_itself() -> None:
    """It appends nothing; who leads then is asked again, and removes it."""
    cluster = Cluster(1, 2, 3)
    assert isinstance(cluster.ask(removing(1)), Deferred)
    cluster.settle()
    assert cluster.network.leader.id in (2, 3)
    assert cluster.network.leader.configuration.voters == (1, 2, 3)


@pytest.mark.parametrize("leaves", [(1, 2, 3), (1, 4)])
def test_the_leader_hands_over_to_one_that_stays(leaves: tuple[int, ...]) -> None:
    """Whoever goes with it would only hand over again, and maybe back."""
    cluster = Cluster(1, 2, 3, 4, 5)
    cluster.tick()
    assert isinstance(cluster.ask(*map(removing, leaves)), Deferred)
    cluster.settle()
    assert cluster.network.leader.id not in leaves


def test_no_quorum_would_be_left() -> None:
    """Then a removal is refused, but not while the leader is new; it can be forced."""
    cluster = Cluster(1, 2, 3)
    cluster.network.isolated = {3}
    cluster.clock.now_s += 2 * ELECTION_TICKS * TICK_S
    cluster.network.tick()
    assert isinstance(cluster.ask(removing(2)), Deferred)
    cluster.tick(ELECTION_TICKS + 2)
    refused = cluster.ask(removing(2))
    assert isinstance(refused, ChangeRefused)
    assert "of the voters 1, 3 only 1 would acknowledge new entries" in str(refused)
    assert cluster.ask(removing(2), is_forced=True) is None
    cluster.settle()
    assert cluster.configuration.voters == (1, 3)


def test_a_voter_that_acknowledges_nothing_counts_in_no_quorum() -> None:
    """Its disk is full, say, and it only answers heartbeats: nothing could be committed with it."""
    cluster = Cluster(1, 2, 3)
    cluster.lost = {(MessageType.APP, 3)}
    cluster.network[1].raw.propose(b"entry")
    cluster.settle()
    cluster.tick(3 * ELECTION_TICKS + 2)
    refused = cluster.ask(removing(2))
    assert isinstance(refused, ChangeRefused)
    assert "of the voters 1, 3 only 1 would acknowledge new entries" in str(refused)
    assert cluster.ask(removing(3)) is None


def test_a_new_leader_removes_nobody_that_it_has_not_probed() -> None:
    """That one would miss the commit of its own removal; it is not waited for beyond an election timeout."""
    cluster = Cluster(1, 2, 3)
    cluster.network.elect(2)
    cluster.lost = {(MessageType.APP, 3)}
    cluster.network.elect(1)
    assert isinstance(cluster.ask(removing(3)), Deferred)
    cluster.tick(ELECTION_TICKS + 2)
    assert cluster.ask(removing(3)) is None


def test_a_cluster_has_a_bounded_number_of_members() -> None:
    """More could be named in no frame; to remove one is not refused."""
    for count, is_taken in ((MAX_MEMBERS - 1, True), (MAX_MEMBERS, False)):
        envelope = Envelope.of({i: address(i) for i in range(1, count + 1)})
        membership = Membership(envelope, ConfState(voters=(1, 2)))
        objection = membership.objection(ChangeRequest((adding(count + 1), removing(count))))
        assert (objection is None) == is_taken
        assert membership.objection(ChangeRequest((removing(count),))) is None
