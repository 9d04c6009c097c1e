"""Whom this node takes for a member: by the cluster's secret, and by the key of the member's data directory.

What the HMACs are made of stands in `proofs.py`. Here stands what follows from them, for both ends of a
connection, and in which words the ends refuse each other. A node that is told why it is refused quotes that,
because "this node" is another one then.
"""

from typing import NamedTuple

from raftkv_trio.peers.handshake_frames import RefusalKind
from raftkv_trio.peers.peer_keys import PeerKeys
from raftkv_trio.peers.proofs import Sealed, secret_objection


class Refusal(NamedTuple):
    """Why a node is refused, and what follows from that for it."""

    reason: str
    kind: RefusalKind = RefusalKind.OTHER
    removed_at: int | None = None


class Trust:
    """What this node can tell of the senders of sealed frames.

    Args:
        own_id: of this node.
        peer_keys: by which the members are known.
        cluster_secret: what all nodes of the cluster share, if they do.
    """

    def __init__(self, own_id: int, peer_keys: PeerKeys, cluster_secret: bytes | None) -> None:
        self._own_id = own_id
        self._peer_keys = peer_keys
        self._secret = cluster_secret

    def lacks_secret(self, peer_id: int, sealed: Sealed) -> Refusal | None:
        """Why the sender of a frame is no node of this cluster, by the secret; None if it may be one."""
        reason = secret_objection(self._secret, sealed, peer_id, self._own_id)
        return None if reason is None else Refusal(reason)

    def has_proved_secret(self, sealed: Sealed) -> bool:
        """Whether the sender of a frame has proved to have the cluster's secret, so to be of this cluster."""
        return self._secret is not None and sealed.is_by_secret(self._secret)

    def unproved(self, peer_id: int, sealed: Sealed) -> Refusal | None:
        """Why the sender of a frame is not that peer; None if it may be: see `is_proof`."""
        if (refusal := self.lacks_secret(peer_id, sealed)) is not None:
            return refusal
        key = self._peer_keys.key_of(peer_id)
        if key is not None and not sealed.is_by_key(key):
            return Refusal(other_directory(peer_id), RefusalKind.DIRECTORY)
        return None

    def is_proof(self, peer_id: int) -> bool:
        """Whether a seal by which that peer is not unproved proves who it is."""
        return self._secret is not None or self._peer_keys.key_of(peer_id) is not None

    async def learns(self, peer_id: int, key: bytes, sealed: Sealed) -> bool:
        """Learn the key that a member tells; False if it is known by another. Raises as `learn` does."""
        return sealed.is_by_key(key) and await self._peer_keys.learn(peer_id, key)


# ---------------------------------------------------------------- the sentences


def quoted(what: str, reason: str | None) -> str:
    """What another node has done to this one, with its own words for the reason."""
    return f'{what}, and says: "{reason}"'


def other_directory(node_id: int) -> str:
    """Why a node with another data directory is refused, and what to do, as one sentence."""
    return (
        f"node {node_id} came back with another data directory and has forgotten its votes; "
        "remove it and add it under a new id; if it was just added and a stranger was met under its id first,"
        f" try `raftkv-trio member forget {node_id}`"
    )


def other_cluster(other: int, own: int) -> str:
    """Why a node of another cluster is refused, and what to do, as one sentence."""
    return (
        f"cluster id {other:x} is not this cluster's {own:x}; if one of the two nodes was added to the other"
        " one's cluster, start it with `raftkv-trio serve --join` and a new data directory; else give both"
        " the same --cluster and --cluster-token"
    )
