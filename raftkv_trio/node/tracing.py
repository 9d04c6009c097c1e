"""Where the time of one write goes: the moments at which it has come a step further, for a client that asks.

A trace is of the node that the write was submitted to. On the leader it has all points below, on a follower
only those that a follower sees. What a follower does between `sent` and `durable-at-N` is in that node's own
metrics: the leader's clock cannot tell.

| point | the write |
| --- | --- |
| `parsed` | has begun to arrive: its head was parsed; all others are counted from here |
| `submitted` | waits for the driver's next turn |
| `appended` | is in the leader's log in memory |
| `forwarded` | is on its way from a follower to the leader |
| `sent` | waits in the outbox for the first follower, or has left if nothing waited there |
| `write-begun`, `durable` | is in a disk call of this node, which begins; the call has ended |
| `durable-at-N` | is durable on node N: its answer has arrived |
| `committed` | is durable on a quorum, and waits for the applier |
| `applied` | is applied on this node |

Steps of the node note a point for all traces up to an index, so that nothing is kept for a write that nobody
traces, and a step costs it one look at an attribute.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftkv_trio.node.proposals import Proposal

#: How many writes are followed at once; further ones have only the points that they note themselves.
MAX_TRACES = 64


class Trace:
    """The moments of one write; `Tracer.begin` makes it.

    Attributes:
        index: of its entry, once this node has appended it as the leader.
        points: in milliseconds since the first one, by name, each at the first time that it was reached.
    """

    def __init__(self, tracer: "Tracer") -> None:
        self.index: int | None = None
        self.points: dict[str, float] = {}
        self._tracer = tracer
        self._began_s = tracer.now()

    def reached(self, point: str) -> None:
        """The write is at this point now."""
        self.points.setdefault(point, 1000 * (self._tracer.now() - self._began_s))

    def follow(self, proposal: "Proposal") -> None:
        """This proposal is the write; called at once after it was submitted."""
        self.reached("submitted")
        proposal.trace = self
        self._tracer.open(self)

    def end(self) -> None:
        """The write has left the node's table: it is applied, or given up."""
        self._tracer.close(self)


class Tracer:
    """The traces of a node that are under way.

    Attributes:
        is_on: whether there are any: whoever has a point to note asks this first.

    Args:
        now: the node's clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.is_on = False
        self.now = now
        self._open: list[Trace] = []

    def begin(self) -> Trace:
        """A trace of a write that has arrived now."""
        trace = Trace(self)
        trace.reached("parsed")
        return trace

    def open(self, trace: Trace) -> None:
        """Follow a trace until it ends, if not too many are followed already."""
        if len(self._open) < MAX_TRACES:
            self._open.append(trace)
            self.is_on = True

    def close(self, trace: Trace) -> None:
        """Follow a trace no more."""
        if trace in self._open:
            self._open.remove(trace)
            self.is_on = bool(self._open)

    def reached(self, point: str, index: int) -> None:
        """All entries up to this index have reached a point."""
        for trace in self._open:
            if trace.index is not None and trace.index <= index:
                trace.reached(point)
