"""Which data directory each member showed first: a voter with another one has forgotten its votes."""

from raftkv_trio.storage import NodeStorage
from raftkv_trio.world import Worker


class DirectoryIds:
    """The directory id that each member showed first; kept in this node's data directory."""

    def __init__(self, storage: NodeStorage, worker: Worker) -> None:
        self._storage = storage
        self._worker = worker
        self._known: dict[int, bytes] = dict(storage.known_directory_ids)

    def is_other(self, node_id: int, directory_id: bytes) -> bool:
        """Whether that node has shown another one as a member."""
        return self._known.get(node_id, directory_id) != directory_id

    async def check(self, node_id: int, directory_id: bytes) -> bool:
        """Whether `directory_id` is that member's; the first one is learnt, durably, before this returns.

        Raises StorageError, and OSError where there is no room for it: the connection ends, and is tried
        again. Cancellation may leave it learnt.
        """
        known = self._known.setdefault(node_id, directory_id)
        if known == directory_id and self._storage.known_directory_ids.get(node_id) != directory_id:
            await self._worker.run(self._storage.remember_directory_id, node_id, directory_id)
        return known == directory_id
