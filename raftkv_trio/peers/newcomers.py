"""The links to nodes that are known and no members yet: how many there may be, and which one gives way.

After a node was down, nodes may have to reach it of which it has never heard. Each costs tasks, and a place
among `MAX_LINKS`. Who brings them about is a member that names them (`node/driver/known_nodes.py`) or, with a
cluster secret, the host from which they come. If that one is broken, it may bring about any number. So a full
house turns nobody away before these have given way:

- a link without a stream. This node dials whoever comes, at the address that it has told, and a correct node
  answers within a moment. Under an id that is not its own, a node does not answer.
- then one of those that were brought about by who has brought about the most. So each gets its share.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from typing import Protocol

from raftkv_trio.peers.incoming import Incoming
from raftkv_trio.peers.outgoing import Outgoing

logger = logging.getLogger(__name__)

#: Bound of the links of this node to others, as far as they are not to members.
MAX_LINKS = 64


class Known(Protocol):
    """The nodes that this node listens to: those of its cluster, as far as it knows."""

    def __contains__(self, node_id: int, /) -> bool: ...

    def came(self, node_id: int) -> None:
        """A node that is not among them wants to say something."""
        ...

    def proved(self, node_id: int) -> None:
        """A node has proved the cluster's secret: it is one of them until `parted`."""
        ...

    def parted(self, node_id: int) -> None:
        """What a node has proved counts no longer: its connections have ended."""
        ...


class Newcomers:
    """The links to nodes that are no members yet; they are among the links to all nodes.

    Args:
        outgoing: the links to all nodes, by id. The links that give way are closed and removed here.
        incoming: the connections that others open.
        known: the nodes that this node listens to.
    """

    def __init__(self, outgoing: MutableMapping[int, Outgoing], incoming: Incoming, known: Known) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._known = known
        self._causes: dict[int, str] = {}  # who has brought about each link, the oldest one first
        self._away: set[int] = set()  # those that had no stream to this node at the last look

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._causes

    def has_room(self, cause: str) -> bool:
        """Whether there may be one more link that `cause` brings about."""
        return len(self._outgoing) < MAX_LINKS or self._giving_way(cause) is not None

    def make_room(self, cause: str) -> None:
        """Close a link if there may be no more; call this only if there is room, or can be."""
        if len(self._outgoing) >= MAX_LINKS and (node_id := self._giving_way(cause)) is not None:
            self._drop(node_id)

    def add(self, node_id: int, cause: str) -> None:
        """There is a link to a node that is no member yet."""
        self._causes[node_id] = cause

    def discard(self, node_id: int) -> None:
        """That node is a member by now, or was removed: its link is no concern of this class."""
        self._causes.pop(node_id, None)

    def _giving_way(self, cause: str) -> int | None:
        return giving_way(self._causes, cause, lambda node_id: self._outgoing[node_id].trouble is None)

    def _drop(self, node_id: int) -> None:
        # If it is a member all the same, it comes again.
        del self._causes[node_id]
        self._known.parted(node_id)
        self._outgoing.pop(node_id).close()
        self._incoming.close(node_id)

    def look(self) -> None:
        """Close the links to nodes that are not known any more; called every second.

        What a node has proved counts while it is connected. The word of a member may be taken back.
        """
        away = {node_id for node_id in self._causes if not self._incoming.is_connected(node_id)}
        for node_id in away & self._away:  # not at the first look: it may be about to connect again
            self._known.parted(node_id)
        self._away = away
        for node_id in [node_id for node_id in self._causes if node_id not in self._known]:
            logger.info("node %d is not known to be a member any more", node_id)
            self._drop(node_id)


def giving_way(causes: Mapping[int, str], cause: str, is_up: Callable[[int], bool]) -> int | None:
    """Which of the links gives way to a new one; None if none does.

    Args:
        causes: who has brought about each link, by node id, the oldest link first.
        cause: who brings about the new one.
        is_up: whether the link to a node has a stream.
    """
    for node_id in causes:
        if not is_up(node_id):
            return node_id
    counts = Counter(causes.values())
    greediest = max(counts, key=counts.__getitem__, default=cause)
    # With one link less it must still have as many as the other one with one more: else both would take the
    # place from each other for ever.
    if counts[greediest] - 1 < counts[cause] + 1:
        return None
    return next(node_id for node_id, its_cause in causes.items() if its_cause == greediest)
