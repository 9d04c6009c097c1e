"""How long ago this node heard from a leader, and how often the leader changed."""

from raftkv_trio.node.driver.known_leader import KnownLeader
from raftkv_trio.raft.types import SoftState, StateRole
from tests.node.clocks import StillClock


async def test_a_follower_counts_from_the_last_message() -> None:
    """Before the first leader there is no age; without one, age goes on from the last message."""
    clock = StillClock()
    leader = KnownLeader(clock)
    assert leader.contact_age_s is None
    leader.update(SoftState(2, StateRole.FOLLOWER), 2)
    clock.now_s = 5
    assert leader.contact_age_s == 5
    leader.heard()
    clock.now_s = 7
    leader.update(SoftState(None, StateRole.PRE_CANDIDATE), 2)
    assert leader.contact_age_s == 2


async def test_a_leader_counts_from_its_last_turn() -> None:
    """After a halt another node may lead. That it led until then stays true when it steps down."""
    clock = StillClock()
    leader = KnownLeader(clock)
    leader.update(SoftState(1, StateRole.LEADER), 2)
    clock.now_s = 10
    leader.turned()
    assert leader.contact_age_s == 0
    clock.now_s = 40
    assert leader.contact_age_s == 30
    leader.update(SoftState(None, StateRole.FOLLOWER), 2)
    leader.turned()
    assert leader.contact_age_s == 30


async def test_changes_are_of_the_leader_alone() -> None:
    """An election without result, or a return of the same leader, is none; waiters hear of all of them."""
    leader = KnownLeader(StillClock())
    for leader_id, role in (
        (2, StateRole.FOLLOWER),
        (None, StateRole.CANDIDATE),
        (2, StateRole.FOLLOWER),
        (3, StateRole.FOLLOWER),
    ):
        changed = leader.changed
        leader.update(SoftState(leader_id, role), 2)
        assert changed.is_set()
    assert leader.changes == 2
