"""A simulation that is used wrongly says so at the call."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from raftkv_trio.errors import NoLeader
from raftkv_trio.kv import Store
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing import Simulation


class Silent(Store):
    """Returns no result."""

    def apply(self, batch: Sequence[Committed]) -> list[Any]:
        return []


def test_wrong_use_is_told() -> None:
    """No nodes, a machine instead of what makes one, a command that is no bytes, a node that is not there."""
    with pytest.raises(ValueError, match=r"^nodes is 0, and has to be 1 or more$"):
        Simulation(Store, nodes=0)
    with pytest.raises(TypeError, match=r"^make_machine makes a state machine, and is no Store$"):
        Simulation(cast("type[Store]", Store()))
    simulation = Simulation(Store)
    with pytest.raises(TypeError, match=r"^a command is bytes, and no str$"):
        simulation.propose(cast("bytes", "text"))
    with pytest.raises(ValueError, match=r"^there is no node 7; there are \[1, 2, 3\]$"):
        simulation.crash(7)


def test_too_few_results_are_told() -> None:
    """Where `apply` returns fewer results than it was given commands, the error says how many."""
    with pytest.raises(
        ValueError, match=r"^apply returned 0 results for 1 commands; it must return one for each$"
    ):
        Simulation(Silent, nodes=1).propose(b"x")


def test_without_a_quorum_there_is_no_leader() -> None:
    """What needs a leader says that there is none, as a node does, and is certainly not applied."""
    simulation = Simulation(Store)
    simulation.leader()
    simulation.partition([1], [2], [3])
    simulation.run_for(3)  # until whoever led has noticed
    with pytest.raises(NoLeader, match="no majority follows a leader"):
        simulation.leader()
    with pytest.raises(NoLeader, match="no majority follows a leader"):
        simulation.propose(b"x")
