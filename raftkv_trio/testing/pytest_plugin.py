"""A pytest fixture: clusters around state machines of your own, on virtual time.

    pytest_plugins = ["raftkv_trio.testing.pytest_plugin"]

in a test module or in the topmost conftest.py brings it. Loaded by name only, so that whoever has this
package installed, and tests something else, does not import it; nothing else in the package needs pytest.
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
    """Makes a Simulation of the same arguments; of a test that fails, seed and last lines are shown."""
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
    """Give the report of a test that failed what its simulations did last."""
    report = yield
    if report.failed:
        for seed, simulation in item.stash.get(_made, []):
            lines = simulation.trace.lines or []
            title = f"raft simulation, seed {seed}, the last of {len(lines)} lines"
            report.sections.append((title, "\n".join(lines[-REPORTED_LINES:])))
    return report
