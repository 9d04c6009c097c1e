"""Public tools for tests: a history checker, and simulated parts of the world that a node runs in."""

from raftkv_trio.testing.history import History, Operation, Outcome
from raftkv_trio.testing.linearizability import (
    HistoryError,
    Model,
    NotLinearizable,
    Undecided,
    check_linearizable,
)
from raftkv_trio.testing.register import ABSENT, PRESENT, Answer, Delete, Get, Put, Register, Seen

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
    "Undecided",
    "check_linearizable",
]
