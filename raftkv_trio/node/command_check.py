"""Whether this node could apply a command: asked before any log has it.

A committed command cannot be skipped: one that the state machine cannot apply ends the node, and ends it
again at each start. So it is refused where it comes in: from a client (`proposals.py`), from a follower that
forwards it (`driver/proposing.py`), from the leader in an entry (`driver/admission.py`).
"""

from collections.abc import Callable

from raftkv_trio.errors import RaftKVError
from raftkv_trio.state_machine import CommandCheckingStateMachine, StateMachine

#: Why the state machine of this node could not apply a command; None if it could.
CommandCheck = Callable[[bytes], str | None]


def command_check(machine: StateMachine) -> CommandCheck | None:
    """The check of commands for this state machine; None if it has none: it takes every command."""
    if not isinstance(machine, CommandCheckingStateMachine):
        return None
    check_command = machine.check_command

    def objection(command: bytes) -> str | None:
        try:
            check_command(command)
        except (RaftKVError, ValueError) as error:
            return str(error)
        return None

    return objection
