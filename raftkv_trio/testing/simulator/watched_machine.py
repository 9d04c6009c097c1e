"""What a simulated node is given in place of a real node's ports, and what watches it."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from raftkv_trio.peers.outbox import Item
from raftkv_trio.raft.types import Message
from raftkv_trio.state_machine import Committed, StateMachine
from raftkv_trio.testing.world.message_network import MessageNetwork
from raftkv_trio.testing.world.timeline import Timeline
from raftkv_trio.world import TrioClock


class MemberClock(TrioClock):
    """A node's clock: virtual time at a rate of its own."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._base = self._base_at = 0.0
        self.rate = 1.0

    def now(self) -> float:
        return self._base + (self._timeline.now - self._base_at) * self.rate

    def set_rate(self, rate: float) -> None:
        self._base, self._base_at = self.now(), self._timeline.now
        self.rate = rate


class WatchedMachine:
    """A state machine that tells the invariants what it was given, and its state after each command."""

    def __init__(self, machine: StateMachine, told: Callable[[Committed, str], None]) -> None:
        self.inner = machine
        self._told = told

    def apply(self, batch: Sequence[Committed]) -> Sequence[object]:
        results: list[object] = []
        for committed in batch:
            results += self.inner.apply([committed])
            self._told(committed, state_hash(self.inner))
        return results

    def snapshot(self) -> Iterator[bytes]:
        return self.inner.snapshot()

    def restore(self, chunks: Any) -> None:
        self.inner.restore(chunks)


def state_hash(machine: StateMachine) -> str:
    """The machine's own `state_hash`, where it has one; else a hash of its snapshot."""
    own: str | None = getattr(machine, "state_hash", None)
    if own is not None:
        return own
    digest = blake2b(digest_size=16)
    for chunk in machine.snapshot():
        digest.update(len(chunk).to_bytes(8, "big") + chunk)
    return digest.hexdigest()


class Post:
    """What the driver takes for its peers."""

    def __init__(
        self, node_id: int, network: MessageNetwork, send_snapshot: Callable[[Message], None]
    ) -> None:
        self._node_id = node_id
        self._send_snapshot = send_snapshot
        self._network = network

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        return self._network.offer(self._node_id, peer_id, items)

    def send_snapshot(self, message: Message) -> bool:
        self._send_snapshot(message)
        return True
