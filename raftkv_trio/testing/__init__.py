"""Public tools for tests: clusters on virtual time around any state machine, and a history checker."""

from raftkv_trio.testing.histories.history import History, Operation, Outcome
from raftkv_trio.testing.histories.linearizability import (
    HistoryError,
    Model,
    NotLinearizable,
    Undecided,
    check_linearizable,
)
from raftkv_trio.testing.histories.register import ABSENT, PRESENT, Answer, Delete, Get, Put, Register, Seen
from raftkv_trio.testing.simulator.simulation import Simulation

__all__ = [
    "ABSENT",
    "PRESENT",
    "Answer",
    "Delete",
    "Get",
    "History",
    "HistoryError",
    "Model",
    "NotLinearizable",
    "Operation",
    "Outcome",
    "Put",
    "Register",
    "Seen",
    "Simulation",
    "Undecided",
    "check_linearizable",
]
