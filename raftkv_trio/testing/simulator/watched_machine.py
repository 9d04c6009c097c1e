"""The state machine that a simulated node replicates, watched from outside."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from raftkv_trio.state_machine import Committed, LevelledStateMachine, StateMachine


class WatchedMachine:
    """A state machine that reports each command that it applies, with a hash of the state after it.

    Args:
        machine: the machine that does the work.
        applied: called with each command and the hash.
    """

    def __init__(self, machine: StateMachine, applied: Callable[[Committed, str], None]) -> None:
        self.inner = machine
        self._applied = applied

    def apply(self, batch: Sequence[Committed]) -> Sequence[object]:
        results: list[object] = []
        for committed in batch:
            results += self.inner.apply([committed])
            self._applied(committed, state_hash(self.inner))
        return results

    def set_level(self, level: int) -> None:
        if isinstance(self.inner, LevelledStateMachine):
            self.inner.set_level(level)

    def snapshot(self) -> Iterator[bytes]:
        return self.inner.snapshot()

    def restore(self, chunks: Any) -> None:
        self.inner.restore(chunks)


def state_hash(machine: StateMachine) -> str:
    """The machine's own `state_hash` if it has one, else a hash of its snapshot."""
    own: str | None = getattr(machine, "state_hash", None)
    if own is not None:
        return own
    digest = blake2b(digest_size=16)
    for chunk in machine.snapshot():
        digest.update(len(chunk).to_bytes(8, "big") + chunk)
    return digest.hexdigest()
