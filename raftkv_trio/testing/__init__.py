"""Public tools for tests: clusters on virtual time around any state machine, and a history checker."""

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
    Seen,
)
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
    "Seen",
    "Simulation",
    "Undecided",
    "check_linearizable",
]
