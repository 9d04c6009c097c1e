"""Feature levels: what all members of a cluster can read, so what may be written to log and snapshots.

A cluster has one level. Its members may run several versions of the program while they are upgraded one by
one, and each version knows levels up to a highest one. The level is part of the replicated state: it stands
in the envelope of each snapshot, and an entry of the log raises it. So every node switches at the same index,
also one that replays its log years later. It is never lowered.

What a later version adds to the log's or the snapshots' format belongs to a new level. Such things are
written only when the cluster has that level, and a node that does not know it is refused from then on
(`node/driver/feature_levels.py`).
"""

from typing import NamedTuple

from raftkv_trio.errors import DecodeError
from raftkv_trio.payload.cbor import integer, items

#: All that was released before there were levels.
RELEASED = 1
#: Commands of version 3, and a store that keeps superseded values.
HISTORY = 2
#: Commands of version 4, and a store with leases.
LEASES = 3
#: Commands of version 5, and a store with users, roles and permissions.
AUTH = 4
#: The highest level that this program knows. A new cluster begins with it.
HIGHEST = AUTH


class Levels(NamedTuple):
    """What a node tells about feature levels in a handshake.

    Attributes:
        highest: the highest one that its program knows.
        level: that of its cluster, as of what it has applied.
        since: the index from which on the cluster has it; 0 for `RELEASED`.
    """

    highest: int
    level: int = RELEASED
    since: int = 0


#: Of a node whose version of the handshake does not tell.
UNTOLD = Levels(RELEASED)


def unpack_levels(value: object) -> Levels:
    """The list `[highest, level, since]`; raises DecodeError unless a correct node can have told it."""
    highest, level, since = map(integer, items(value, 3))
    if not RELEASED <= level <= highest:
        raise DecodeError(f"feature level {level} of a node that knows levels up to {highest}")
    if (since == 0) != (level == RELEASED):
        raise DecodeError(f"feature level {level} since index {since}")
    return Levels(highest, level, since)


def objection_to_levels(
    own_id: int, own: Levels, needed: int, applied: int, peer_id: int, peer: Levels
) -> str | None:
    """Why two nodes cannot be members of one cluster, by their levels, and what to do; None if they can.

    Both nodes are named, since the sentence is quoted at the other end.

    Args:
        own, peer: what both tell.
        needed: what a member of this node's cluster has to know.
        applied: the index up to which this node has applied the log.
    """
    if peer.highest < needed:
        return _upgrade(peer_id, peer.highest, needed, own_id)
    if own.highest < peer.level:
        return _upgrade(own_id, own.highest, peer.level, peer_id)
    # A raise is an entry, so a node that has applied that index has the level. If not, the two have begun
    # with different levels, and what they have applied since then need not be the same.
    is_missed = peer.level > own.level and peer.since <= applied
    if is_missed or (peer.level == own.level and peer.since != own.since):
        return (
            f"nodes {own_id} and {peer_id} have begun this cluster with different versions of raftkv-trio, at"
            f" feature levels {own.level} and {peer.level}; stop the one of them that the majority refuses,"
            " remove its data directory, and start it again with the version of the others"
        )
    return None


def _upgrade(node_id: int, highest: int, needed: int, told_by: int) -> str:
    return (
        f"node {node_id} runs a version of raftkv-trio that knows feature levels up to {highest}, and the"
        f" cluster of node {told_by} has level {needed}; upgrade node {node_id}"
    )
