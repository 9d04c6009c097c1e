"""By which data directory this node knows each member.

A voter that comes back under its old node id with a new directory has forgotten its vote, and could vote
twice in one term; so could two leaders be elected (paper, section 5.2). Therefore each directory has a random
id, and proves it in every handshake by a key that is made of it (`proofs.py`). The first key of a member is
written down, in this node's own directory, and another one is refused from then on: the member is removed and
added under a new node id. If a stranger was first, an operator has its key forgotten.
"""

import hmac

from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.storage import DIRECTORY_ID_BYTES, Identity, NodeStorage
from raftkv_trio.world import Worker


def known_key(known: bytes, own_id: int) -> bytes:
    """The key of a member, from what `peers` has of it; `own_id` is the id of the node whose file it is.

    Up to version 2 of the protocol, members told each other their directory ids themselves.
    """
    return key_towards(known, own_id) if len(known) == DIRECTORY_ID_BYTES else known


class PeerKeys:
    """This node's keys towards the others, and the key that each member has shown first.

    The former are made of the id of its directory, the latter are kept in it.
    """

    def __init__(self, storage: NodeStorage, worker: Worker) -> None:
        self._identity: Identity = storage.identity
        self._storage = storage
        self._worker = worker
        self._known = {
            node_id: known_key(known, storage.identity.node_id)
            for node_id, known in storage.known_keys.items()
        }

    def key_towards(self, node_id: int) -> bytes:
        """The key that shows this node's directory to that member, and to no other one."""
        return key_towards(self._identity.directory_id, node_id)

    def key_of(self, node_id: int) -> bytes | None:
        """The key by which that member is known; None if they have not met, or it is being written down."""
        return self._known.get(node_id) if node_id in self._storage.known_keys else None

    async def learn(self, node_id: int, key: bytes) -> bool:
        """Whether that member is known by this key; the first one is learnt before this returns.

        Raises StorageError, and OSError if the disk has no room for it: then the caller closes the
        connection, and the next one tries again. Cancellation may leave the key learnt.
        """
        # In memory at once, so that of two connections with different keys only the first one passes while
        # the disk is busy; on the disk before the first one passes, so that a restart of this node knows it.
        is_known = hmac.compare_digest(self._known.setdefault(node_id, key), key)
        if is_known and node_id not in self._storage.known_keys:
            await self._worker.run(self._storage.remember_key, node_id, key)
        return is_known

    async def forget(self, node_id: int) -> bool:
        """Forget that member's key, so that the next one is learnt; whether there was one.

        Raises StorageError, and OSError if the disk has no room: then it is known again after a restart, as
        it may be after a cancellation.
        """
        was_known = self._known.pop(node_id, None) is not None
        # The worker makes one call after the other: a key that is being written goes with it.
        await self._worker.run(self._storage.forget_key, node_id)
        return was_known
