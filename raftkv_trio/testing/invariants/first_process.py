"""If two processes run under one node id, the first one stays connected, and is told of the second one."""

from collections.abc import Mapping

from raftkv_trio.testing.invariants.violation import FIRST_PROCESS, Violation

#: For so long in all the first process may be without its stream to a member; it is dialled again at once.
MOMENT_S = 1.0
#: By then it has been told.
TOLD_WITHIN_S = 5.0


class FirstProcessCheck:
    """Watches the streams of a process to the members, while a second one runs under its id.

    Args:
        node_id: of both.
        now: virtual time at which the second one has started.
    """

    def __init__(self, node_id: int, now: float) -> None:
        self._node_id = node_id
        self._begun_at = self._last_at = now
        self._without_s: dict[int, float] = {}

    def check(self, now: float, streams: Mapping[int, bool], told: str | None) -> None:
        """Check the first process again; to be called often. Raises Violation.

        Args:
            streams: for each member that nothing else has kept from it: whether it has a stream there.
            told: what the first process has been told of a second one.
        """
        since_s, self._last_at = now - self._last_at, now
        for peer_id, has_stream in streams.items():
            if has_stream:
                continue
            without_s = self._without_s[peer_id] = self._without_s.get(peer_id, 0.0) + since_s
            if without_s > MOMENT_S:
                raise Violation(
                    FIRST_PROCESS,
                    f"node {self._node_id} is thrown off its stream to node {peer_id}, in all for"
                    f" {without_s:.1f} s since a second process runs under its id",
                )
        if streams and told is None and now - self._begun_at > TOLD_WITHIN_S:
            raise Violation(
                FIRST_PROCESS, f"node {self._node_id} is not told that a second process runs under its id"
            )
