"""The bounds of a gRPC connection."""

from dataclasses import dataclass, fields

from raftkv_trio.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may cost; the same type for both roles.

    Attributes:
        max_streams: calls that the other end may have open at once.
        max_head_bytes: a header list by HPACK's count (32 bytes a field more than its text), and also the
            encoded block.
        max_message_bytes: the largest message that is received.
        stream_window_bytes: what the other end may send on one stream before it must wait.
        connection_window_bytes: the same of all streams; it is refilled at once.
        max_request_bytes: of all requests that have arrived, partly or wholly, and are not answered yet; on
            a server, of all connections.
        soft_queue_bytes: while so much waits to be read by the other end, no further call is begun.
        max_queue_bytes: if more waits, the connection is ended.
        max_all_queue_bytes: of all connections of a server; if more waits, a connection that adds to it is
            ended, if it has more than `soft_queue_bytes`.
        resets_per_s, pings_per_s, settings_per_s: how many of the other end's frames are taken in the long
            run; `burst_s` times as many at once. PINGs are free for who makes calls.
        idle_frames_per_s: the same of frames that do nothing: PRIORITY, unknown ones, empty DATA, and
            frames of streams that have ended.
        burst_s: see there.
        header_timeout_s: how long a frame, or the head of a request, may take to arrive.
        body_timeout_s: how long the request of a unary call may take to arrive after its head.
        send_timeout_s: how long the other end may take to read 64 KiB, or to let a response go on.
    """

    max_streams: int = 1000
    max_head_bytes: int = 16 * 1024
    max_message_bytes: int = 2 * 1024 * 1024
    stream_window_bytes: int = 65535
    connection_window_bytes: int = 1024 * 1024
    max_request_bytes: int = 64 * 1024 * 1024
    soft_queue_bytes: int = 1024 * 1024
    max_queue_bytes: int = 64 * 1024 * 1024
    max_all_queue_bytes: int = 256 * 1024 * 1024
    resets_per_s: int = 200
    pings_per_s: int = 20
    settings_per_s: int = 5
    idle_frames_per_s: int = 200
    burst_s: int = 10
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"`{field.name}` must be positive")
        for name in ("stream_window_bytes", "connection_window_bytes"):
            if getattr(self, name) >= 2**31:
                raise ConfigError(f"`{name}` must be below 2**31")
        if self.connection_window_bytes < 65535:
            raise ConfigError("`connection_window_bytes` must be at least 65535, with which HTTP/2 begins")

    @property
    def max_response_bytes(self) -> int:
        """The most that a unary response may have: it is queued whole.

        The heads of its frames, and what waits already, need some room too.
        """
        return self.max_queue_bytes // 8 * 7


#: Of a client, which trusts the server it has chosen with more: messages as large as etcd's clients take.
CLIENT_LIMITS = Limits(
    max_message_bytes=2**31 - 1,
    max_head_bytes=64 * 1024,
    stream_window_bytes=1024 * 1024,
    connection_window_bytes=16 * 1024 * 1024,
)


class Allowance:
    """Counts what the other end does against a rate.

    Args:
        rate: how often a second in the long run.
        burst: how often at once.
    """

    __slots__ = ("_burst", "_counted_at", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._counted_at = -1.0

    def take(self, now: float) -> bool:
        """Count once more; False if that is too often."""
        if self._counted_at >= 0:
            self._left = min(self._burst, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def unpaid(self, now: float) -> float:
        """How often it has happened in excess of the rate, and time has not made up for."""
        return max(0.0, self._burst - self._left - max(0.0, now - self._counted_at) * self._rate)

    def give(self, more: float) -> None:
        """Let it happen so many times more, up to the burst."""
        self._left = min(self._burst, self._left + more)
