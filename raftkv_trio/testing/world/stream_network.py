"""The network of level 2: byte streams between nodes, as TCP carries them over a bad network.

Lost bytes are sent again, and so arrive late, but never out of order. During a cut, also a one-way cut, no
bytes arrive: they wait until the cut is mended, or for `UNACKNOWLEDGED_S`, when the connection breaks. A
process that ends resets its connections; a node that is cut off from it does not learn that, and nobody does
if the host has died with the process. Then the other ends stay open, and nothing is heard on them, for as
long as nothing is sent. There is no keepalive: a node must get along without it.
"""

import errno
import os
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from zlib import crc32

import trio

from raftkv_trio.testing.world.message_network import Conditions, MessageNetwork
from raftkv_trio.testing.world.timeline import Timeline, Trace
from raftkv_trio.world import UNACKNOWLEDGED_S, Listener

CAPACITY_BYTES = 64 * 1024
RETRANSMIT_S = 0.2

#: Waits while a process is paused.
Gate = Callable[[], Awaitable[None]]


class SimulatedStream(trio.abc.Stream):
    """One end of a connection between `owner` and `other.owner`.

    Attributes:
        dialled: whether `owner` opened the connection.
        flight: what was sent from this end and has not arrived: (arrival, bytes); empty bytes end the stream.
        stalled_since: since when a cut has held the stream up; None: it is not held up.
    """

    other: "SimulatedStream"

    def __init__(self, owner: int, network: "StreamNetwork", gate: Gate, *, dialled: bool) -> None:
        self.owner = owner
        self.dialled = dialled
        self.flight: deque[tuple[float, bytes]] = deque()
        self.stalled_since: float | None = None
        self.is_broken = self.is_closed = self.has_ended = False
        self._network = network
        self._gate = gate
        self._received = bytearray()
        self._changed = trio.Event()

    @property
    def unread_bytes(self) -> int:
        """Number of bytes sent from this end that are in transit, or not read at the other end."""
        return sum([len(data) for _, data in self.flight]) + len(self.other._received)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = bytes(data)
        while rest:
            await self._gate()
            self._check()
            room = CAPACITY_BYTES - self.unread_bytes
            if room <= 0:
                await self._wait()
                continue
            part = self._network.part(rest[:room])
            rest = rest[len(part) :]
            self._network.send(self, part)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            await self._gate()
            self._check()
            if self._received:
                data = self._network.part(bytes(self._received[:max_bytes]))
                del self._received[: len(data)]
                self.other.wake()
                return data
            if self.has_ended:
                return b""
            await self._wait()

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.wake()
            if not self.is_broken:
                self._network.send(self, b"")
        await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------ told by the network

    def arrive(self, data: bytes) -> None:
        """Bytes from the other end arrive; empty: it sends no more."""
        if self.is_closed or self.is_broken:  # nobody is there any more to take it, and the system says so
            self.other.break_off()
        elif data:
            self._received += data
        else:
            self.has_ended = True
        self.wake()

    def break_off(self) -> None:
        """Reset this end."""
        self.is_broken = True
        self.flight.clear()
        self.wake()

    def wake(self) -> None:
        """Let waiting calls look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def _wait(self) -> None:
        await self._changed.wait()

    def _check(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError("this end was closed")
        if self.is_broken:
            raise trio.BrokenResourceError("the connection was reset")


class SimulatedListener:
    """A node's listener; connections wait in it until they are accepted."""

    def __init__(self, closed: Callable[[], None], gate: Gate) -> None:
        self.backlog: deque[SimulatedStream] = deque()
        self.gate = gate
        self.arrived = trio.Event()
        self._closed = closed

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        while not self.backlog:
            self.arrived = trio.Event()
            await self.arrived.wait()
        await self.gate()
        return self.backlog.popleft()

    async def aclose(self) -> None:
        self._closed()
        await trio.lowlevel.checkpoint()


class NodeNetwork:
    """The `Network` port of a node, from one start to its end."""

    def __init__(self, node_id: int, network: "StreamNetwork", gate: Gate) -> None:
        self._node_id = node_id
        self._network = network
        self._gate = gate

    async def listen(self, host: str, port: int) -> Listener:
        await trio.lowlevel.checkpoint()
        return self._network.listen(self._node_id, self._gate)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        return await self._network.connect(self._node_id, int(host.removeprefix("node")), self._gate)


class StreamNetwork(MessageNetwork):
    """Carries bytes; cuts and conditions are those of `MessageNetwork`."""

    def __init__(self, timeline: Timeline, random: Random, trace: Trace, conditions: Conditions) -> None:
        super().__init__(timeline, random, trace, conditions)
        self._up: set[int] = set()
        self._listeners: dict[int, SimulatedListener] = {}
        self._streams: dict[int, SimulatedStream] = {}
        self._busy_until: dict[tuple[int, int], float] = {}  # by link, if its bandwidth is limited

    # ------------------------------------------------------------ nodes come and go

    def join(self, node_id: int, receiver: object) -> None:
        """A node is up; it listens itself, and everything reaches it through its streams."""
        self._up.add(node_id)
        self._dead_hosts.discard(node_id)

    def leave(self, node_id: int) -> None:
        """A process has ended: its connections are reset, unless its host is dead; it sends nothing more."""
        self._up.discard(node_id)
        self._listeners.pop(node_id, None)
        self._note_death(node_id)
        for number, stream in list(self._streams.items()):
            if stream.owner != node_id and stream.other.owner != node_id:
                continue
            del self._streams[number]
            dead, living = (stream, stream.other) if stream.owner == node_id else (stream.other, stream)
            dead.break_off()
            if not self.is_cut(node_id, living.owner):
                self._timeline.after(self._transit_s(), living.break_off)

    def disconnect(self, sender: int, receiver: int) -> None:
        """Reset the connections that `sender` opened to `receiver`."""
        for stream in self._streams.values():
            if stream.dialled and (stream.owner, stream.other.owner) == (sender, receiver):
                stream.break_off()
                stream.other.break_off()

    def listen(self, node_id: int, gate: Gate) -> SimulatedListener:
        """Listen for a node; raises OSError if it listens already."""
        listeners = self._listeners
        if node_id in listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listener = SimulatedListener(lambda: self._unlisten(node_id, listener), gate)
        listeners[node_id] = listener
        return listener

    def _unlisten(self, node_id: int, listener: SimulatedListener) -> None:
        if self._listeners.get(node_id) is listener:
            del self._listeners[node_id]

    async def connect(self, sender: int, receiver: int, gate: Gate) -> trio.abc.Stream:
        """Connect, however long a cut lasts; raises OSError if the connection is refused."""
        again_s = 1.0
        while True:
            await self.sleep(self._transit_s())
            await gate()
            if not self.is_cut(sender, receiver):
                break
            await self.sleep(again_s)
            again_s *= 2
        await self.sleep(self._transit_s())
        listener = self._listeners.get(receiver)
        if listener is None or sender not in self._up:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        near = SimulatedStream(sender, self, gate, dialled=True)
        far = SimulatedStream(receiver, self, listener.gate, dialled=False)
        near.other, far.other = far, near
        self._count += 1
        self._streams[self._count] = near
        listener.backlog.append(far)
        listener.arrived.set()
        return near

    # ------------------------------------------------------------ bytes

    def part(self, data: bytes) -> bytes:
        """The part of `data` that is sent, or read, at once: mostly all of it."""
        if len(data) > 1 and self._random.random() < 0.05:
            return data[: self._random.randrange(1, len(data))]
        return data

    def send(self, stream: SimulatedStream, data: bytes) -> None:
        """Send bytes from this end of a connection; empty: the end of the stream."""
        arrival = self._sent_at(stream, len(data)) + self._transit_s()
        while self.conditions.loss and self._random.random() < self.conditions.loss:
            self.lost += 1
            arrival += RETRANSMIT_S
        if stream.flight:
            arrival = max(arrival, stream.flight[-1][0])
        stream.flight.append((arrival, data))
        self._timeline.at(arrival, self._pump, stream)

    def _sent_at(self, stream: SimulatedStream, size_bytes: int) -> float:
        """When the last of these bytes leaves: a link carries the bytes of all its streams in their order."""
        bytes_per_s, now = self.conditions.bytes_per_s, self._timeline.now
        if bytes_per_s is None:
            return now
        link = (stream.owner, stream.other.owner)
        sent_at = max(now, self._busy_until.get(link, 0.0)) + size_bytes / bytes_per_s
        self._busy_until[link] = sent_at
        return sent_at

    def _pump(self, stream: SimulatedStream) -> None:
        sender, receiver = stream.owner, stream.other.owner
        while stream.flight and stream.flight[0][0] <= self._timeline.now:
            if self.is_cut(sender, receiver):
                self._stall(stream)
                return
            stream.stalled_since = None
            _, data = stream.flight.popleft()
            self.delivered += 1
            self._trace.note(f"{sender}->{receiver}", f"{len(data)} bytes, crc {crc32(data):08x}")
            stream.other.arrive(data)

    def _stall(self, stream: SimulatedStream) -> None:
        """A cut holds the stream up: try again later, or give the connection up."""
        now = self._timeline.now
        if stream.stalled_since is None:
            stream.stalled_since = now
        if now - stream.stalled_since >= UNACKNOWLEDGED_S:
            self._trace.note(f"{stream.owner}->{stream.other.owner}", "gives up")
            stream.break_off()
        else:
            self._timeline.after(RETRANSMIT_S * (1 + self._random.random()), self._pump, stream)

    def is_cut(self, one: int, other: int) -> bool:
        """Whether either direction is cut, or a host is dead: without acknowledgements nothing moves."""
        if one in self._dead_hosts or other in self._dead_hosts:
            return True
        return not self._cut.isdisjoint({(one, other), (other, one)})

    def _transit_s(self) -> float:
        conditions, random = self.conditions, self._random
        transit_s = random.uniform(*conditions.delay_s)
        if conditions.stray and random.random() < conditions.stray:
            transit_s += random.uniform(0, conditions.stray_delay_s)
        return transit_s

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        over = trio.Event()
        self._timeline.after(seconds, over.set)
        await over.wait()
