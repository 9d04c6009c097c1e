"""Forwarded commands at a leader that slows writers, on real cores."""

from collections.abc import Sequence
from random import Random

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.node.command_check import CommandCheck
from raftkv_trio.node.driver.catching_up import ENTRY_OVERHEAD_BYTES, MAX_WAIT_S
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.driver.membership_changes import MembershipChanges
from raftkv_trio.node.driver.proposing import Proposer
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Membership
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.outbox import Item, Outbox
from raftkv_trio.peers.refusals import Refusals
from raftkv_trio.peers.wire import MAX_FORWARDED, Forward, Refused
from raftkv_trio.raft.types import Message, StateRole
from raftkv_trio.sync import Wakeup
from tests.node.driver.lagging import ENTRY_BYTES, TICK_S, Lagging

FORWARDED = bytes(100)
MAX_COMMAND_BYTES = 2**20
FORWARDED_BYTES = len(FORWARDED) + ENTRY_OVERHEAD_BYTES


class Outboxes:
    """The open outboxes of both followers."""

    def __init__(self) -> None:
        self.of = {peer_id: Outbox(10**9) for peer_id in (2, 3)}
        for outbox in self.of.values():
            outbox.open()

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        return self.of[peer_id].offer(items)

    def send_snapshot(self, message: Message) -> bool:
        raise NotImplementedError("nobody needs one here")

    def highest_level(self, peer_id: int) -> int | None:
        return None

    def refused(self, peer_id: int) -> list[Refused]:
        """What was refused to this peer since the last call."""
        items = self.of[peer_id].close()
        self.of[peer_id].open()
        return [item for item in items if isinstance(item, Refused)]


class Slowed:
    """Leader 1 slows writers for node 3, and its `Proposer`."""

    def __init__(
        self,
        *,
        max_bytes: int = 10_000 * ENTRY_BYTES,
        lacks: float = 0.8,
        command_check: CommandCheck | None = None,
    ) -> None:
        self.lagging = lagging = Lagging(max_bytes=max_bytes)
        lagging.write(int(max_bytes * lacks / ENTRY_BYTES))
        lagging.acknowledge()
        assert lagging.catching_up.slowed_because
        raw, wakeup = lagging.leader.raw, Wakeup()
        self.proposals = ProposalTable(
            node_id=1,
            random=Random(1),
            wakeup=wakeup,
            max_command_bytes=10**6,
            max_count=10**6,
            max_bytes=10**9,
        )
        envelope = Envelope.of({node_id: PeerAddress("127.0.0.1", node_id) for node_id in (1, 2, 3)})
        changes = MembershipChanges(
            1,
            raw,
            lagging.leader.storage,
            Membership(envelope, lagging.leader.configuration),
            lagging.clock,
            lagging.active,
            LeadershipTransfer(raw, wakeup, lagging.clock, lagging.active, self.proposals, 1.0),
            1.0,
            lambda: None,
        )
        self.outboxes = Outboxes()
        self.refusals = Refusals(lagging.clock)
        self.proposer = Proposer(
            raw,
            self.proposals,
            changes,
            lagging.catching_up,
            self.refusals,
            max_command_bytes=MAX_COMMAND_BYTES,
            max_batch_bytes=2**20,
            command_check=command_check,
        )
        self._sequence = 0

    @property
    def appended(self) -> int:
        return self.lagging.leader.raw.last_index

    def forward(self, count: int, peer_id: int = 2, command: bytes = FORWARDED) -> Forward:
        first, self._sequence = self._sequence, self._sequence + count
        proposals = [(ProposalId(peer_id, 7, first + number), command) for number in range(count)]
        forward = Forward(self.lagging.leader.raw.term, tuple(proposals))
        self.proposer.forwarded(peer_id, forward)
        return forward

    def turn(self) -> None:
        self.proposer.propose(self.outboxes)
        self.lagging.net.settle()

    def tick(self) -> None:
        self.lagging.tick()
        self.turn()


def ids(items: Sequence[Refused]) -> list[ProposalId]:
    return [proposal_id for item in items for proposal_id in item.ids]


def test_what_would_wait_for_long_is_refused() -> None:
    """As much waits as the present rate admits in a second. All the rest is refused at once, the newest."""
    slowed = Slowed()
    forwards = [slowed.forward(1000) for _ in range(100)]
    before = slowed.appended
    slowed.turn()
    items = slowed.outboxes.refused(2)
    refused = ids(items)
    sent = [proposal_id for forward in forwards for proposal_id, _ in forward.proposals]
    assert refused == sent[-len(refused) :]
    assert all(item.reason.endswith("has caught up") for item in items)
    waits_ticks = 0
    while slowed.appended < before + len(sent) - len(refused):
        slowed.tick()
        waits_ticks += 1
        assert waits_ticks < 1000
    assert MAX_WAIT_S / 2 <= waits_ticks * TICK_S <= MAX_WAIT_S + 2 * TICK_S


def test_a_command_of_any_size_may_wait_if_no_other_does() -> None:
    """Or it could never be written."""
    slowed = Slowed()
    slowed.forward(10**3)
    slowed.turn()
    while not slowed.outboxes.refused(2):
        slowed.forward(10**3)
        slowed.turn()
    for _ in range(20):
        slowed.tick()
    before = slowed.appended
    large = slowed.forward(1, command=bytes(500_000))
    slowed.turn()
    slowed.tick()
    assert not slowed.outboxes.refused(2)
    assert slowed.appended == before + len(large.proposals)


def test_a_turn_does_not_look_at_what_stays() -> None:
    """Not at commands that wait, and not at the queue of this node's own clients."""
    slowed = Slowed()
    looks = 0

    class Counting(bytes):
        def __len__(self) -> int:
            nonlocal looks
            looks += 1
            return super().__len__()

    slowed.forward(100)
    slowed.forward(100, command=Counting(FORWARDED))
    for _ in range(100):
        slowed.proposals.submit(Counting(FORWARDED))
    slowed.turn()
    assert not slowed.outboxes.refused(2)
    assert looks
    looks = 0
    for _ in range(10):
        slowed.turn()
    assert looks == 0


def test_what_waits_is_refused_if_the_node_does_not_lead_any_more() -> None:
    """Each peer hears of its own commands, so that it may send them to the next leader."""
    slowed = Slowed()
    expected = {peer_id: [i for i, _ in slowed.forward(100, peer_id).proposals] for peer_id in (2, 3)}
    slowed.turn()
    slowed.lagging.net.elect(2)
    assert slowed.lagging.leader.raw.role is not StateRole.LEADER
    slowed.turn()
    refused = {peer_id: slowed.outboxes.refused(peer_id) for peer_id in (2, 3)}
    for peer_id, items in refused.items():
        assert ids(items) == expected[peer_id][-len(ids(items)) :]
        assert {item.reason for item in items} == {"node 1 does not lead term 2"}
    assert sum(len(ids(items)) for items in refused.values()) > 0


def test_what_waits_is_refused_if_the_disk_is_full() -> None:
    """Not kept until the disk has room again: by then nobody waits for it."""
    slowed = Slowed()
    slowed.forward(300)
    before = slowed.appended
    slowed.turn()
    assert not slowed.outboxes.refused(2)
    waiting = 300 - (slowed.appended - before)
    assert waiting > 100
    slowed.proposals.disk_shortage = "the log has no room"
    slowed.turn()
    assert len(ids(slowed.outboxes.refused(2))) == waiting


def test_what_the_core_does_not_append_costs_nothing() -> None:
    """During a leadership transfer the core refuses. The room stays for others."""
    slowed = Slowed()
    slowed.lagging.net.isolated.add(2)
    slowed.lagging.leader.raw.transfer_leader(2)
    room = slowed.lagging.catching_up.room_bytes
    forward = slowed.forward(10)
    slowed.turn()
    assert ids(slowed.outboxes.refused(2)) == [proposal_id for proposal_id, _ in forward.proposals]
    assert slowed.lagging.catching_up.room_bytes == room > 0


def test_a_command_that_is_too_large_for_this_node_is_refused() -> None:
    """With the reason, and it alone: what was forwarded with it is appended. A refused one is counted."""
    slowed = Slowed()
    term, before = slowed.lagging.leader.raw.term, slowed.appended
    sizes = [10, MAX_COMMAND_BYTES + 1, 20]
    proposals = tuple([(ProposalId(2, 7, i), bytes(size)) for i, size in enumerate(sizes)])
    slowed.proposer.forwarded(2, Forward(term, proposals))
    slowed.turn()
    (refused,) = slowed.outboxes.refused(2)
    assert refused.ids == (ProposalId(2, 7, 1),)
    assert refused.is_final  # the sender is configured with larger ones; their bytes do not travel again
    assert f"over the limit of {MAX_COMMAND_BYTES} of node 1, which leads" in refused.reason
    assert slowed.refusals.counts["command"] == 1
    while slowed.appended < before + 2:
        slowed.tick()


def test_a_command_of_a_newer_version_is_refused() -> None:
    """It alone, before it may wait; not for good, since another leader may know it."""
    slowed = Slowed(command_check=lambda command: "upgrade it" if command == b"newer" else None)
    term, before = slowed.lagging.leader.raw.term, slowed.appended
    proposals = tuple([(ProposalId(2, 7, i), command) for i, command in enumerate((b"a", b"newer", b"b"))])
    slowed.proposer.forwarded(2, Forward(term, proposals))
    slowed.turn()
    (refused,) = slowed.outboxes.refused(2)
    assert refused.ids == (ProposalId(2, 7, 1),)
    assert not refused.is_final
    assert refused.reason == "node 1, which leads, could not apply the command: upgrade it"
    assert slowed.refusals.counts["newer_version"] == 1
    while slowed.appended < before + 2:
        slowed.tick()


def test_a_refusal_names_no_more_proposals_than_a_frame_may_have() -> None:
    """However many of several Forwards have waited together."""
    slowed = Slowed(max_bytes=2**27, lacks=0.55)
    forwards = [slowed.forward(MAX_FORWARDED, command=b"") for _ in range(3)]
    slowed.turn()
    at_once = ids(slowed.outboxes.refused(2))
    slowed.lagging.net.elect(2)
    slowed.turn()
    refused = slowed.outboxes.refused(2)
    assert len(ids(refused)) > MAX_FORWARDED
    assert max(len(item.ids) for item in refused) <= MAX_FORWARDED
    expected = [proposal_id for forward in forwards for proposal_id, _ in forward.proposals]
    assert ids(refused) + at_once == expected[-len(ids(refused) + at_once) :]
