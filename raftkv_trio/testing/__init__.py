"""Test your own state machine: simulated clusters on virtual time, and a checker of histories.

A `Simulation` runs whole nodes around your state machine in one thread, with simulated disks and a simulated
network. Equal seeds give equal runs. Every step is checked against Raft's invariants; a `Violation` names the
violated one:

    simulation = Simulation(Counter, nodes=3, seed=7)
    simulation.partition([simulation.leader()])
    simulation.run_for(5)  # the other nodes elect a leader
    assert simulation.propose(b"2") == 2
    simulation.heal()

A `History` records what concurrent clients of any system did and were told; `check_linearizable` says whether
one order of the operations explains all answers, according to a `Model`. `Register` is the model of a key of
raftkv-trio:

    history = History()
    operation = history.invoke("client 1", "key", RegisterPut(b"value"))  # before the request is sent
    history.complete(operation, RegisterAnswer())  # after the answer has arrived
    check_linearizable(history, Register())

With pytest, `raftkv_trio.testing.pytest_plugin` has a fixture that makes simulations and shows the last lines
of those of a failed test. `examples/test_counter.py` uses it.

This module has all public names. The rooms below it, and what they answer:

- `simulator/`: how does a whole cluster run in one thread on virtual time?
- `world/`: how do the simulated disk, network and clock behave, and fail?
- `invariants/`: what must hold in a cluster after every step?
- `histories/`: does one order of the operations explain what the clients were told?
- `schedules/`: which faults strike a seed's cluster, and when?
- `campaign/`: what does `raftkv-trio simulate` run, and how does it shrink a failure?
- `planted/`: would the simulator find a bug?
"""

from raftkv_trio.testing.histories.history import History, Outcome, RecordedOperation
from raftkv_trio.testing.histories.linearizability import (
    HistoryError,
    Model,
    NotLinearizable,
    Undecided,
    check_linearizable,
)
from raftkv_trio.testing.histories.register import (
    ABSENT,
    PRESENT,
    Register,
    RegisterAnswer,
    RegisterDelete,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    RegisterVersion,
    Seen,
)
from raftkv_trio.testing.invariants.violation import Violation
from raftkv_trio.testing.schedules.schedule import Limits
from raftkv_trio.testing.simulator.simulation import Simulation
from raftkv_trio.testing.world.message_network import Conditions

__all__ = [
    "ABSENT",
    "PRESENT",
    "Conditions",
    "History",
    "HistoryError",
    "Limits",
    "Model",
    "NotLinearizable",
    "Outcome",
    "RecordedOperation",
    "Register",
    "RegisterAnswer",
    "RegisterDelete",
    "RegisterGet",
    "RegisterPut",
    "RegisterRequest",
    "RegisterVersion",
    "Seen",
    "Simulation",
    "Undecided",
    "Violation",
    "check_linearizable",
]
