"""A pytest fixture: simulated clusters that replicate your own state machine.

To load it, write this in a test module or in the topmost conftest.py:

    pytest_plugins = ["raftkv_trio.testing.pytest_plugin"]

It is no automatic plugin, so tests that do not ask for it do not import it. Nothing else in this package
needs pytest.
"""

from collections.abc import Callable, Generator

import pytest

from raftkv_trio.state_machine import StateMachine
from raftkv_trio.testing.schedules.schedule import Limits
from raftkv_trio.testing.simulator.simulation import Simulation
from raftkv_trio.testing.world.message_network import Conditions

REPORTED_LINES = 40

_made = pytest.StashKey[list[tuple[int, Simulation]]]()


@pytest.fixture
def raft_simulation(request: pytest.FixtureRequest) -> Callable[..., Simulation]:
    """Makes a `Simulation` from the same arguments; a failed test shows its seed and its last lines."""
    made = request.node.stash.setdefault(_made, [])

    def make(
        make_machine: Callable[[], StateMachine],
        *,
        nodes: int = 3,
        seed: int = 0,
        conditions: Conditions | None = None,
        limits: Limits | None = None,
        turn_delay_s: float = 0.0005,
        keep_trace: bool = True,
    ) -> Simulation:
        simulation = Simulation(
            make_machine,
            nodes=nodes,
            seed=seed,
            conditions=conditions,
            limits=limits,
            turn_delay_s=turn_delay_s,
            keep_trace=keep_trace,
        )
        made.append((seed, simulation))
        return simulation

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of its simulations to the report of a failed test."""
    report = yield
    if report.failed:
        for seed, simulation in item.stash.get(_made, []):
            lines = simulation.trace.lines or []
            title = f"raft simulation, seed {seed}, the last of {len(lines)} lines"
            report.sections.append((title, "\n".join(lines[-REPORTED_LINES:])))
    return report
