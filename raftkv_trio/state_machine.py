"""The state machine that a node replicates, as the node sees it. The node knows nothing else about it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from raftkv_trio.records import record


@record
class Committed:
    """A committed command, as every node applies it, in log order."""

    term: int
    index: int
    command: bytes


class StateMachine(Protocol):
    """A deterministic state machine: the same commands in the same order give the same state on every node.

    The node calls one method at a time. It calls `restore` in a worker thread, because that can take long. So
    read the state machine only after `Node.wait_readable`, which returns when no restore is under way.
    """

    def apply(self, batch: Sequence[Committed]) -> Sequence[object]:
        """Apply commands in order; return one result for each, in the same order.

        The node gives each result to the caller that proposed the command. For a command that makes no sense,
        return a result that says so, such as a `RefusedResult`. An exception ends the node: the command is
        committed, so the node can neither skip it nor go on without it.
        """
        ...

    def snapshot(self) -> Iterator[bytes]:
        """The state at this call, as chunks, which are made lazily while the node goes on applying commands.

        Chunks must not be empty, and each must be made quickly, because the node does nothing else meanwhile;
        64 KiB are a good size.
        """
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state with that of a snapshot."""
        ...


@runtime_checkable
class VerifyingStateMachine(StateMachine, Protocol):
    """A state machine that can tell whether a snapshot is one of its own, without restoring it.

    With it, a snapshot that another member sends is verified before it replaces anything. Without it, chunks
    that `restore` does not accept end the node when they are restored, and again at each start.
    """

    def verify(self, chunks: Iterable[bytes]) -> None:
        """Raise a RaftKVError or ValueError unless `restore` would accept these chunks.

        The node calls it in a worker thread while it goes on applying commands, so it must neither read nor
        change the state. A snapshot may be larger than the memory: keep nothing of it.
        """
        ...


@runtime_checkable
class LevelledStateMachine(StateMachine, Protocol):
    """A state machine whose later versions apply commands, or write snapshots, that earlier ones cannot read.

    The members of a cluster are upgraded one by one. Until all of them know what is new, each must write only
    what the others can read, and all must begin with it at the same index. The node takes care of both: the
    cluster has a feature level, which is replicated like the state itself.
    """

    def set_level(self, level: int) -> None:
        """From now on the cluster has this feature level; apply commands and write snapshots by its rules.

        The node calls it with the level of the state that the machine is given: before anything is applied or
        restored, then before each snapshot that it restores, and between two commands when the level is
        raised. Only a machine in its initial state is told a lower level than it has. The same level again
        changes nothing. Iterators that `snapshot` returned before stay as they are.
        """
        ...


class RefusedResult(Protocol):
    """A result of a command that the state machine has refused, so that the command changed nothing.

    It is a result like any other. Only in the counts of outcomes (`NodeMeasures.proposals`) it does not stand
    among those that are applied.
    """

    @property
    def refused_as(self) -> str:
        """Under which name the refusal is counted; from a small fixed set, as it becomes a label."""
        ...


def refused_as(result: object) -> str | None:
    """The name under which this result is counted as a refusal; None if it is none."""
    if not hasattr(type(result), "refused_as"):  # asked of the class: a result may be any object
        return None
    name = result.refused_as  # type: ignore[attr-defined]
    return name if isinstance(name, str) else None


@runtime_checkable
class CommandCheckingStateMachine(StateMachine, Protocol):
    """A state machine that can tell whether it could apply a command, before the log has the command.

    With it, a command of a newer version of the program is refused: a client's, one that another member
    forwards, and one that the leader sends as an entry. Without it, every command is taken, and one for
    which `apply` raises ends the node, and again at each start.
    """

    def check_command(self, command: bytes) -> None:
        """Raise a RaftKVError or ValueError if `apply` would raise for this command.

        A command for which `apply` has a result must pass, whatever the result is. The node calls this for
        each command, also for those that are never committed, so it must be quick, and must neither depend on
        the state nor change it.
        """
        ...
