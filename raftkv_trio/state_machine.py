"""What a node asks of the state machine that it replicates. Nothing here knows what the machine does."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from raftkv_trio.records import record


@record
class Committed:
    """A committed command, in log order, as every node applies it."""

    term: int
    index: int
    command: bytes


class StateMachine(Protocol):
    """A deterministic machine: the same commands in the same order give the same state on every node.

    The node calls these one at a time. `restore` is called in a thread, since it can take long: read the
    machine only after `Node.wait_readable`, which returns when none is under way.
    """

    def apply(self, batch: Sequence[Committed]) -> Sequence[object]:
        """Apply commands; return one result a command, in order, for whoever proposed it.

        A command that makes no sense is a result like any other. An exception ends the node: by then the
        command is committed, and there is nothing else that a replica could truthfully do.
        """
        ...

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is at this call, as chunks made lazily while commands go on being applied.

        Chunks are not empty, and take little time each to make; 64 KiB are a good size.
        """
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state with that of a snapshot."""
        ...
