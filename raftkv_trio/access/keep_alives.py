"""Keep-alives of this server's clients. All that arrive while one log entry is under way share the next one.

A renewal is a log entry. So one that was acknowledged holds on every node, whoever leads next, and a leader
that is paused or deposed acknowledges none. Since there is one entry for many, and one at a time, it costs
little.
"""

from collections import deque

import trio

from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.errors import NoLeader, ProposalError
from raftkv_trio.kv import LeasesRenewed, RenewLeases, encode_command
from raftkv_trio.sync import Wakeup

#: The most leases of one entry, which is applied in one piece: that takes about 5 µs for each.
MAX_RENEWED = 250


class KeepAlive:
    """Renewals that share a log entry."""

    __slots__ = ("_done", "_error", "_ttls_s", "ids")

    def __init__(self) -> None:
        self.ids: dict[int, None] = {}
        self._done = trio.Event()
        self._ttls_s: dict[int, int] = {}
        self._error: ProposalError | None = None

    async def ttl_s(self, lease_id: int) -> int:
        """The whole time of one of its leases, in seconds, once that is renewed; 0 if it does not exist.

        Raises ProposalError. Cancellation leaves the entry to the other leases.
        """
        await self._done.wait()
        if self._error is not None:
            raise type(self._error)(*self._error.args) from self._error
        return self._ttls_s[lease_id]

    def renewed(self, ttls_s: tuple[int, ...]) -> None:
        """The entry is applied, with this result."""
        self._ttls_s = dict(zip(self.ids, ttls_s, strict=True))
        self._done.set()

    def failed(self, error: ProposalError) -> None:
        """The leases are not renewed, or perhaps: the error says."""
        self._error = error
        self._done.set()


class KeepAlives:
    """Gathers renewals, and has them written; `run` must be running."""

    def __init__(self, replicated: ReplicatedStore) -> None:
        self._replicated = replicated
        self._waiting: deque[KeepAlive] = deque()
        self._wakeup = Wakeup()
        self._has_ended = False

    def join(self, lease_id: int) -> KeepAlive:
        """The renewals among which this lease is from now on. Raises NoLeader if the server is stopping."""
        if self._has_ended:
            raise NoLeader("the node is stopping")
        last = self._waiting[-1] if self._waiting else None
        if last is None or (len(last.ids) >= MAX_RENEWED and lease_id not in last.ids):
            last = KeepAlive()
            self._waiting.append(last)
        last.ids[lease_id] = None
        self._wakeup.set()
        return last

    async def run(self) -> None:
        """Write renewals until cancelled. What waits then ends with NoLeader."""
        try:
            while True:
                await self._wakeup.wait()
                while self._waiting:
                    await self._write(self._waiting.popleft())
        finally:
            self._has_ended = True
            for keep_alive in self._waiting:
                keep_alive.failed(NoLeader("the node is stopping"))

    async def _write(self, keep_alive: KeepAlive) -> None:
        command = encode_command(RenewLeases(tuple(keep_alive.ids)))
        try:
            result = (await self._replicated.write(command)).result
            assert isinstance(result, LeasesRenewed), f"no renewal is refused: {result}"
            keep_alive.renewed(result.ttls_s)
        except ProposalError as error:
            keep_alive.failed(error)
        except trio.Cancelled:
            keep_alive.failed(NoLeader("the node is stopping"))
            raise
