"""The fate of a proposal: applied, certainly not applied, or unknown, and never a wrong word about it."""

import gc
import weakref
from random import Random

import pytest
import trio

from raftkv_trio.errors import (
    ChangeRefused,
    CommandRefused,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
)
from raftkv_trio.node.proposals import Applied, Proposal, ProposalTable
from raftkv_trio.peers.wire import MAX_FORWARDED
from raftkv_trio.sync import Wakeup

APPLIED = Applied(3, 7, "result")
LEADER = 2


@pytest.fixture
def table() -> ProposalTable:
    return ProposalTable(
        node_id=1, random=Random(1), wakeup=Wakeup(), max_command_bytes=100, max_count=4, max_bytes=250
    )


def send(table: ProposalTable, term: int) -> list[Proposal]:
    batch = table.next_queued(1000)
    table.sent(batch, term, LEADER)
    return batch


async def test_applied_gives_the_result(table: ProposalTable) -> None:
    """Whoever waits gets the state machine's result, with term and index of the entry."""
    proposal = table.submit(b"x")
    send(table, 3)
    table.applied(proposal.id, APPLIED)
    assert await proposal.wait() == APPLIED
    assert len(table) == 0


async def test_given_up_before_it_was_sent_it_is_never_sent(table: ProposalTable) -> None:
    """A proposal given up in the queue is certainly not applied: the queue does not hold it any more."""
    proposal = table.submit(b"x")
    kept = table.submit(b"y")
    assert isinstance(proposal.give_up(), NoLeader)
    assert table.next_queued(1000) == [kept]


async def test_given_up_in_the_queue_of_a_leader_that_slows_writers_it_says_so(table: ProposalTable) -> None:
    """The client learns why nothing was accepted, and that it may try again."""
    proposal = table.submit(b"command")
    table.slowed_because = "the leader slows writers until node 3 has caught up"
    assert "in time (the leader slows writers until node 3 has caught up); it is" in str(proposal.give_up())


async def test_at_its_deadline_it_is_given_up(table: ProposalTable) -> None:
    """Its waiter learns whether it may be applied; those with a later deadline, or none, go on."""
    sent, queued, later, without = [table.submit(command) for command in (b"s", b"q", b"l", b"w")]
    table.sent([sent], 3, LEADER)
    sent.deadline, queued.deadline, later.deadline = 10.0, 10.0, 12.0
    table.end_overdue(9.9)
    assert len(table) == 4
    table.end_overdue(10.0)
    with pytest.raises(OutcomeUnknown):
        await sent.wait()
    with pytest.raises(NoLeader):
        await queued.wait()
    assert table.next_queued(1000) == [later, without]


async def test_given_up_after_it_was_sent_its_outcome_is_unknown(table: ProposalTable) -> None:
    """From the moment it is sent until it is applied, no word but OutcomeUnknown is true."""
    proposal = table.submit(b"x")
    send(table, 3)
    assert isinstance(proposal.give_up(), OutcomeUnknown)
    table.applied(proposal.id, APPLIED)  # it may well happen later, and bothers nobody


async def test_a_later_term_queues_what_was_lost_again(table: ProposalTable) -> None:
    """Once an entry of a later term is applied, what was sent before and not applied is queued again."""
    lost = table.submit(b"lost")
    send(table, 3)
    late = table.submit(b"late")
    send(table, 4)
    table.term_applied(4)
    assert table.next_queued(1000) == [lost]
    assert isinstance(lost.give_up(), NoLeader)
    assert isinstance(late.give_up(), OutcomeUnknown)


async def test_only_the_term_it_was_sent_under_may_refuse_it(table: ProposalTable) -> None:
    """A refusal that was long under way does not touch a proposal that another leader may have by now."""
    proposal = table.submit(b"x")
    send(table, 3)
    table.refused(proposal.id, 3, LEADER, "no")
    table.retry_refused()
    send(table, 4)
    table.refused(proposal.id, 3, LEADER, "no")
    table.retry_refused()
    assert table.next_queued(1000) == []
    assert isinstance(proposal.give_up(), OutcomeUnknown)


async def test_a_command_that_is_refused_for_good_is_too_large(table: ProposalTable) -> None:
    """The leader allows smaller ones only; a client that tried again would be refused again."""
    proposal = table.submit(b"x")
    send(table, 3)
    table.refused(proposal.id, 3, LEADER, ChangeRefused("over the limit of node 2"))
    with pytest.raises(TooLarge, match="over the limit of node 2"):
        await proposal.wait()
    assert table.open_bytes == len(table) == 0


async def test_only_the_node_it_was_sent_to_may_refuse_it(table: ProposalTable) -> None:
    """Another one does not know whether the leader has appended it, also when that term is over."""
    proposal = table.submit(b"x")
    send(table, 3)
    table.refused(proposal.id, 3, 3, "forged")
    table.retry_refused()
    assert table.next_queued(1000) == []
    assert isinstance(proposal.give_up(), OutcomeUnknown)


async def test_what_is_applied_after_all_is_not_sent_again(table: ProposalTable) -> None:
    """The leader has said that it did not append it: while it waits to be sent again, and in the queue."""
    refused = table.submit(b"x"), table.submit(b"y", is_change=True)
    for proposal in refused:
        send(table, 3)
        table.sent(table.queued_changes, 3, LEADER)
        table.refused(proposal.id, 3, LEADER, "no")
    table.applied(refused[0].id, APPLIED)
    table.retry_refused()
    assert table.queued_changes == [refused[1]]
    table.applied(refused[1].id, APPLIED)
    assert not table.has_queued
    assert not table.queued_changes
    assert table.open_bytes == len(table) == 0


async def test_a_refused_proposal_waits_for_the_next_tick(table: ProposalTable) -> None:
    """A refusing leader is asked again once a tick, not at once."""
    proposal = table.submit(b"x")
    send(table, 3)
    table.refused(proposal.id, 3, LEADER, "no")
    assert table.next_queued(1000) == []
    table.retry_refused()
    assert table.next_queued(1000) == [proposal]


async def test_a_command_that_is_refused_again_waits_longer(table: ProposalTable) -> None:
    """But never for long, and a change of the members is asked for in every tick."""
    proposal, change = table.submit(b"x"), table.submit(b"y", is_change=True)
    waits = []
    for _ in range(5):
        send(table, 3)
        table.refused(proposal.id, 3, LEADER, "the leader slows writers")
        waits.append(0)
        while not table.has_queued:
            table.sent(table.queued_changes, 3, LEADER)
            table.refused(change.id, 3, LEADER, "another change is pending")
            table.retry_refused()
            assert table.queued_changes == [change]
            waits[-1] += 1
    assert waits == [1, 2, 4, 4, 4]
    assert "in time (the leader slows writers); it is certainly not" in str(proposal.give_up())


async def test_what_is_not_sent_stays_in_order(table: ProposalTable) -> None:
    """A client's proposals go out in the order in which they were submitted, however often that is tried."""
    first, second, third = (table.submit(bytes([n])) for n in range(3))
    assert table.next_queued(2)[0] is first
    assert table.next_queued(1000) == [first, second, third]
    table.sent([first], 3, LEADER)
    assert table.next_queued(1000) == [second, third]


async def test_what_is_given_up_holds_no_memory(table: ProposalTable) -> None:
    """However many writes are given up while nobody leads, no command of theirs is kept."""
    refused = table.submit(b"refused")
    send(table, 3)
    table.refused(refused.id, 3, LEADER, "no")
    queued = table.submit(b"queued")
    commands = [weakref.ref(proposal) for proposal in (refused, queued)]
    for proposal in (refused, queued):
        proposal.give_up()
    del proposal, refused, queued
    gc.collect()
    assert [command() for command in commands] == [None, None]


async def test_batches_are_bounded_and_never_empty(table: ProposalTable) -> None:
    """A batch holds as many commands as fit, and one that is larger than the bound goes alone."""
    for size in (50, 50, 90):
        table.submit(bytes(size))
    sizes = []
    while batch := table.next_queued(100):
        sizes.append(len(batch))
        table.sent(batch, 3, LEADER)
    assert sizes == [2, 1]
    table.submit(bytes(60))
    assert len(table.next_queued(10)) == 1


async def test_bounds_refuse_and_free_again(table: ProposalTable) -> None:
    """Too large, too many, or too many bytes are refused; what is settled makes room."""
    with pytest.raises(TooLarge):
        table.submit(bytes(101))
    by_bytes = [table.submit(bytes(100)) for _ in range(2)]
    with pytest.raises(Overloaded):
        table.submit(bytes(100))
    by_bytes[0].give_up()
    table.applied(by_bytes[1].id, APPLIED)
    for _ in range(4):
        table.submit(b"x")
    with pytest.raises(Overloaded):
        table.submit(b"x")


async def test_a_stopping_node_tells_each_the_truth(table: ProposalTable) -> None:
    """On close the queued are told NoLeader, the sent OutcomeUnknown, and whoever comes later NoLeader."""
    sent = table.submit(b"sent")
    send(table, 3)
    queued = table.submit(b"queued")
    table.close("the node is stopping")
    with pytest.raises(OutcomeUnknown, match="stopping"):
        await sent.wait()
    with pytest.raises(NoLeader, match="stopping"):
        await queued.wait()
    with pytest.raises(NoLeader, match="stopping"):
        table.submit(b"late")


async def test_a_cancelled_wait_leaves_the_proposal_on_its_way(table: ProposalTable) -> None:
    """Cancelling a wait is no verdict: the proposal may still be applied, and a second wait sees it."""
    proposal = table.submit(b"x")
    with trio.move_on_after(0):
        await proposal.wait()
    send(table, 3)
    table.applied(proposal.id, APPLIED)
    assert await proposal.wait() == APPLIED


async def test_a_batch_is_no_more_than_a_forward_may_have() -> None:
    """Commands without bytes are not free: each takes some bytes of the frame."""
    table = ProposalTable(
        node_id=1,
        random=Random(1),
        wakeup=Wakeup(),
        max_command_bytes=10,
        max_count=3 * MAX_FORWARDED,
        max_bytes=10,
    )
    for _ in range(MAX_FORWARDED + 5):
        table.submit(b"")
    batch = table.next_queued(1000)
    assert len(batch) == MAX_FORWARDED
    table.sent(batch, 1, LEADER)
    assert len(table.next_queued(1000)) == 5


def test_a_command_that_the_state_machine_could_not_apply_is_refused() -> None:
    """With the reason; a change of the members is none of the state machine's."""
    table = ProposalTable(
        node_id=1,
        random=Random(1),
        wakeup=Wakeup(),
        max_command_bytes=100,
        max_count=4,
        max_bytes=250,
        command_check=lambda command: "upgrade it" if command == b"newer" else None,
    )
    with pytest.raises(CommandRefused, match=r"^upgrade it; it is certainly not applied$"):
        table.submit(b"newer")
    assert table.outcomes()["command_refused"] == 1
    table.submit(b"known")
    table.submit(b"newer", is_change=True)
    assert len(table) == 2
