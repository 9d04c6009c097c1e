"""How long a client is waited for: for the rest of a frame, of a request, and for a window.

There is one deadline at a time, the first of all; whoever reads from the client has it. What has not come in
time is ended, and the rest of the connection goes on, unless it was a frame that has not come.
"""

from collections.abc import Callable
from math import inf

from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.rpc import Code
from raftkv_trio.grpc.server_end import Call, ServerEnd

#: So often in `send_timeout_s` it is looked for responses that do not go on.
SWEEPS = 4
#: So much of a response must go on in `send_timeout_s`.
PROGRESS_BYTES = 64 * 1024


class Patience:
    """With one client.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, end: ServerEnd, limits: Limits, now: Callable[[], float]) -> None:
        self._end = end
        self._limits = limits
        self._now = now
        self._inside_since: float | None = None  # the beginning of something has arrived, but not its end
        # Responses that wait for a window: since when, and how much was to be sent then.
        self._stalled: dict[Call, tuple[float, int]] = {}
        self._sweep_at: float | None = None  # when these are looked at again; None: none waits

    @property
    def is_needed(self) -> bool:
        """Whether there is, or was, something to wait for."""
        end = self._end
        return bool(
            end.is_inside_head
            or self._inside_since is not None
            or end.arriving
            or end.blocked
            or self._sweep_at is not None
        )

    @property
    def sweeps(self) -> bool:
        """Whether responses that wait for a window are looked at again."""
        return self._sweep_at is not None

    def deadline(self) -> float:
        """Until when the client has time for the first of what it owes; inf: it owes nothing."""
        end, limits, now, deadline = self._end, self._limits, self._now(), inf
        if not end.is_inside_head:
            self._inside_since = None
        else:
            if self._inside_since is None:
                self._inside_since = now
            deadline = self._inside_since + limits.header_timeout_s
        if end.arriving:
            for call in reversed(end.arriving.values()):
                if call.since:
                    break
                call.since = now
            deadline = min(deadline, next(iter(end.arriving.values())).since + limits.body_timeout_s)
        if end.blocked:
            if self._sweep_at is None:
                self._sweep_at = now + limits.send_timeout_s / SWEEPS
            deadline = min(deadline, self._sweep_at)
        else:
            self._sweep_at = None
            self._stalled.clear()
        return deadline

    def end_slow(self) -> None:
        """A deadline has passed: end what the client has not done in time."""
        end, limits, now = self._end, self._limits, self._now()
        if self._inside_since is not None and now >= self._inside_since + limits.header_timeout_s:
            end.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame did not arrive in time"))
        for call in list(end.arriving.values()):
            if now < call.since + limits.body_timeout_s:
                break
            end.finish(call, Code.CANCELLED, "the request did not arrive in time")
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = None
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Look at the responses that wait for a window; reset those that have not gone on for too long."""
        end, noted, self._stalled = self._end, self._stalled, {}
        for call in list(end.blocked.values()):
            if not call.is_unary:
                continue  # a stream waits until the client reads, for as long as the client likes
            since, unsent = noted.get(call, (now, call.unsent_bytes))
            if now >= since + self._limits.send_timeout_s:
                if unsent - call.unsent_bytes < PROGRESS_BYTES:
                    end.reset(call, ErrorCode.CANCEL)
                    continue
                since, unsent = now, call.unsent_bytes
            self._stalled[call] = since, unsent
