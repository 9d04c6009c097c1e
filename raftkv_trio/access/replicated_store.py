"""Writes through the log and reads after a quorum: what REST and etcd's API ask of a node and its store."""

import trio

from raftkv_trio.access.full_store import FullStoreLog
from raftkv_trio.access.waiting import wait_applied, wait_readable
from raftkv_trio.access.watching import WatchHub
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.errors import RequestIdReused, StoreFull
from raftkv_trio.kv import OverQuota, RequestReused, ResultForgotten, Store
from raftkv_trio.node.node import Node
from raftkv_trio.node.proposals import Applied, Proposal
from raftkv_trio.payload.membership import ChangeRequest

MAX_KEY_BYTES = 8 * 1024


class ReplicatedStore:
    """One node and the store that it replicates; all APIs of a server share one.

    Attributes:
        node, store: as given. Only the node changes the store.
        quota_bytes: the quota that writes carry into the log; None: they have none.
        watches: of all APIs; the server runs it.
    """

    def __init__(
        self, node: Node, store: Store, config: RestConfig, watch: WatchConfig | None = None
    ) -> None:
        self.node = node
        self.store = store
        self.watches = WatchHub(store, node, watch or WatchConfig())
        self.quota_bytes = config.quota_bytes or None
        self._config = config
        largest = config.max_value_bytes + MAX_KEY_BYTES
        self._full_store = FullStoreLog(config.quota_bytes, largest, trio.current_time)

    async def wait_readable(self) -> None:
        """Wait until the store holds all that was acknowledged on any node before this call.

        Raises NoLeader if that takes longer than a request may. Cancellation leaves nothing behind.
        """
        await wait_readable(self.node, self._config)

    async def write(self, command: bytes) -> Applied:
        """Submit a command, and wait until it is applied here. Raises ProposalError.

        Cancellation gives the command up; it may or may not be applied.
        """
        return await self.outcome(self.node.submit(command))

    async def outcome(self, proposal: Proposal) -> Applied:
        """Wait until a command is applied here.

        Raises ProposalError: its class says whether the command may still be applied; StoreFull if it met its
        quota, RequestIdReused if it was not run for its request id. Cancellation gives the command up.
        """
        applied = await wait_applied(self.node, proposal, self._config)
        if isinstance(applied.result, OverQuota):
            self._full_store.refused(applied.result)
            raise StoreFull(
                f"The store is full: it holds {applied.result.size_bytes} bytes of keys and values, and its"
                f" quota is {applied.result.quota_bytes}; delete keys, or raise the quota on all members"
                " (`raftkv-trio serve --quota-bytes`)"
            )
        if isinstance(applied.result, RequestReused):
            raise RequestIdReused(
                "Another request had this Idempotency-Key; give each request a key of its own; this one is"
                " certainly not applied"
            )
        if isinstance(applied.result, ResultForgotten):
            raise RequestIdReused(
                f"This request was applied before, at revision {applied.result.revision}, and is not applied"
                " again; its result is not kept, or is another user's"
            )
        if not self.node.is_restoring:
            self._full_store.written(self.store.size_bytes)
        return applied

    async def change_members(self, request: ChangeRequest) -> Applied:
        """Change the members, and wait until that is applied here. Raises ProposalError.

        Cancellation gives the change up; it may or may not be applied.
        """
        return await wait_applied(self.node, self.node.change_members(request), self._config)
