"""By which data directory this node knows each member.

Each directory has a random id. A voter that comes back under its old node id with a new directory has
forgotten its vote, and could vote twice in one term; so could two leaders be elected (paper, section 5.2).
Therefore the first id of a member is written down, in this node's own directory, and another one is refused
for ever: the member is removed and added under a new node id.
"""

from raftkv_trio.storage import NodeStorage
from raftkv_trio.world import Worker


class DirectoryIds:
    """The directory id that each member has shown first, kept in this node's data directory."""

    def __init__(self, storage: NodeStorage, worker: Worker) -> None:
        self._storage = storage
        self._worker = worker
        self._known: dict[int, bytes] = dict(storage.known_directory_ids)

    def is_other(self, node_id: int, directory_id: bytes) -> bool:
        """Whether that node is known by another directory; False if it is not known at all."""
        return self._known.get(node_id, directory_id) != directory_id

    async def check(self, node_id: int, directory_id: bytes) -> bool:
        """Whether that member is known by this directory; the first one is learnt before this returns.

        Raises StorageError, and OSError if the disk has no room for it: then the caller closes the
        connection, and the next one tries again. Cancellation may leave the id learnt.
        """
        # In memory at once, so that of two connections with different ids only the first one passes while the
        # disk is busy; on the disk before the first one passes, so that a restart of this node knows it too.
        known = self._known.setdefault(node_id, directory_id)
        if known == directory_id and self._storage.known_directory_ids.get(node_id) != directory_id:
            await self._worker.run(self._storage.remember_directory_id, node_id, directory_id)
        return known == directory_id
