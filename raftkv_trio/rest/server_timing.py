"""`Server-Timing` (W3C): where the time of one PUT went, for a client that asks with `X-Raft-Trace: 1`.

Each metric of the field is a point that the write has come to, in milliseconds since the head of its request
was parsed; `node/tracing.py` has the points. Only the answer to a PUT that succeeds has the field. Without
the request's field nothing is timed.
"""

from raftkv_trio.http import Request, Response
from raftkv_trio.node.node import Node
from raftkv_trio.node.tracing import Trace


def trace_if_asked(request: Request, node: Node) -> Trace | None:
    """A trace that begins now, if the request asks for one."""
    return node.begin_trace() if (b"x-raft-trace", b"1") in request.fields else None


def with_timing(response: Response, trace: Trace | None) -> Response:
    """The response, with the points of the trace if there is one."""
    if trace is None:
        return response
    trace.reached("answered")
    points = sorted(trace.points.items(), key=lambda point: point[1])
    timing = ", ".join(f"{name};dur={time_ms:.3f}" for name, time_ms in points)
    return response._replace(fields={**response.fields, "Server-Timing": timing})
