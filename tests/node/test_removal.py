"""A removed node: whom it believes, when it stops serving clients, when it ends."""

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import NodeRemoved
from raftkv_trio.node.reads import AppliedIndex
from raftkv_trio.node.removal import GRACE_PERIOD_S, Removal
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.world import TrioClock


class Removed:
    """Node 3, which has applied its log up to index 10; `refused` has the reasons why it refuses requests."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.removal = Removal(3, AppliedIndex(10), TrioClock(), self.refused.append)
        self.removal.members_applied(members(1, 2, 3))


def members(*ids: int, removed: dict[int, int] | None = None) -> Envelope:
    addresses = {i: PeerAddress(f"node-{i}", 1) for i in ids}
    return Envelope(members=Envelope.of(addresses).members, removed=removed or {})


def test_its_own_log_is_not_enough_to_end_it() -> None:
    """It goes on answering and serving until a remaining member confirms."""
    node = Removed()
    known = []
    for envelope in members(1, 3, removed={2: 7}), members(1, removed={2: 7, 3: 9}):
        node.removal.members_applied(envelope)
        known.append((node.removal.index, node.removal.confirmed_index))
    node.removal.told_by_member(1, 9)
    known.append((node.removal.index, node.removal.confirmed_index))
    assert known == [(None, None), (9, None), (9, 9)]
    assert not node.refused


def test_two_members_that_know_more_are_believed() -> None:
    """The node has not seen that entry: it refuses its clients at once."""
    node = Removed()
    node.removal.told_by_member(1, 11)
    node.removal.told_by_member(2, 11)
    assert node.removal.confirmed_index == 11
    assert node.refused == ["node 3 was removed from the cluster, by entry 11, which it has not seen"]


def test_the_only_other_member_is_believed() -> None:
    """There is nobody else to ask."""
    node = Removed()
    node.removal.members_applied(members(2, 3, removed={1: 9}))
    node.removal.told_by_member(2, 11)
    assert node.removal.confirmed_index == 11


@pytest.mark.parametrize(
    "words",
    [
        [(1, 11)],  # one alone
        [(1, 11), (1, 11)],  # twice the same
        [(1, 11), (2, 12)],  # a removed id is removed by one entry
        [(1, 11), (9, 11)],  # no member
        [(1, 10), (2, 10)],  # the node has applied that entry, and is a member
    ],
)
def test_who_is_not_believed(words: list[tuple[int, int]]) -> None:
    """One member alone, who is no member, and who knows no more than this node: it goes on."""
    node = Removed()
    for peer_id, index in words:
        node.removal.told_by_member(peer_id, index)
    assert (node.removal.index, node.removal.confirmed_index) == (None, None)
    assert not node.refused


async def test_it_ends_after_a_grace_period(autojump_clock: trio.testing.MockClock) -> None:
    """Clients that were told to wait get their responses before the node ends."""
    node = Removed()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            with pytest.raises(NodeRemoved, match="by entry 11"):
                await node.removal.end_node()

        nursery.start_soon(end)
        await trio.sleep(5)
        node.removal.told_by_member(1, 11)
        node.removal.told_by_member(2, 11)
        told_at_s = trio.current_time()
    assert trio.current_time() - told_at_s == pytest.approx(GRACE_PERIOD_S)
