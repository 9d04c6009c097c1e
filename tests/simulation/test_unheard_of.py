"""A member that was down while others were added: who may lead it, and at whose word."""

import pytest

from raftkv_trio.kv import Store
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.testing.campaign.reshaping import help_the_lost
from raftkv_trio.testing.simulator.simulation import Simulation, address_of

CHANGE_WITHIN_S = 20.0


class Reshaped:
    """Three nodes, one of which is down while nodes are added and removed."""

    def __init__(self, seed: int) -> None:
        self.simulation = Simulation(Store, nodes=3, seed=seed)
        self.away = next(i for i in (1, 2, 3) if i != self.simulation.leader())
        self.simulation.crash(self.away)

    @property
    def voters(self) -> tuple[int, ...]:
        return self.simulation.invariants.configuration.conf_state.voters

    def add(self, node_id: int) -> None:
        self._change(MemberChange(Action.ADD, node_id, address_of(node_id)))
        self.simulation.add(node_id)
        self.simulation.start(node_id)
        self.simulation.run_until(lambda: node_id in self.voters, within_s=CHANGE_WITHIN_S)

    def remove(self, node_id: int) -> None:
        self._change(MemberChange(Action.REMOVE, node_id))
        self.simulation.run_until(lambda: node_id not in self.voters, within_s=CHANGE_WITHIN_S)

    def lead(self, node_id: int) -> None:
        leader = self.simulation.members[self.simulation.leader()]
        assert leader.parts is not None
        leader.parts.leadership_transfer.request(node_id)
        self.simulation.run_until(lambda: self.simulation.members[node_id].leads, within_s=CHANGE_WITHIN_S)

    def _change(self, *changes: MemberChange) -> None:
        member = self.simulation.members[self.simulation.leader()]
        assert member.node is not None
        proposal = member.node.change_members(ChangeRequest(changes, is_forced=True))
        member.add_poll(lambda: proposal.is_settled)
        self.simulation.run_until(lambda: proposal.is_settled, within_s=CHANGE_WITHIN_S)
        proposal.result()

    def has_followed(self) -> bool:
        parts = self.simulation.members[self.away].parts
        return parts is not None and parts.applied.index == self.simulation.invariants.committed_index


@pytest.mark.parametrize("seed", range(3))
def test_a_known_member_names_the_leader(seed: int) -> None:
    """The leader was added while this node was away; one member that it knows is still there."""
    reshaped = Reshaped(seed)
    reshaped.add(4)
    reshaped.lead(4)
    (gone,) = {1, 2, 3} - {reshaped.away} - {min({1, 2, 3} - {reshaped.away})}
    reshaped.remove(gone)
    reshaped.simulation.start(reshaped.away)
    reshaped.simulation.run_until(reshaped.has_followed)


def test_without_anybodys_word_it_follows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the answers: it is the word of others that lets it follow."""
    monkeypatch.setattr(KnownNodes, "told", lambda known, peer_id, members: None)
    reshaped = Reshaped(0)
    reshaped.add(4)
    reshaped.lead(4)
    reshaped.simulation.start(reshaped.away)
    reshaped.simulation.run_for(10)
    assert not reshaped.has_followed()


def test_the_operator_names_the_members_if_nobody_else_can() -> None:
    """All members that it knows were removed, and have ended. Until then it follows nobody."""
    reshaped = Reshaped(0)
    known = sorted({1, 2, 3} - {reshaped.away})
    for node_id in (4, 5):
        reshaped.add(node_id)
    reshaped.lead(4)
    for node_id in known:
        reshaped.remove(node_id)
    simulation = reshaped.simulation
    simulation.run_until(
        lambda: all(simulation.members[i].node is None for i in known), within_s=CHANGE_WITHIN_S
    )
    simulation.start(reshaped.away)
    simulation.run_for(10)
    assert not reshaped.has_followed()
    assert simulation.leader() == 4
    simulation.supervised = True  # a process that was stopped is started again
    help_the_lost(simulation)
    simulation.run_until(reshaped.has_followed)
