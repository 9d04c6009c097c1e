"""Which nodes this node listens to: those of its cluster, as far as it knows.

A node is known if one of these names it:

- the configuration in force: both halves of a joint one, and learners;
- a change in the log that is not applied yet: on another node it may be in force already;
- the members as applied, or as this process was configured (`--cluster`), without removed ids;
- the word of a known node, on its own stream, that a node is a member which has come and was asked about.

Also known is a node that has proved in the handshake that it has the cluster's secret, if there is one, while
it is connected and unless it was removed.

A word counts as long as its speaker is known without it. So a node that was named by mistake is unknown again
as soon as that word is taken back, whatever that node, or others that it has named, have said meanwhile.

In the paper (section 6) servers take requests of servers that are not in their configuration. They need to:
after some changes, the only node that can lead may be one of which a node that was down has never heard. But
who takes requests of everybody can be made to vote, append or forget by everybody.

So here such a node is not taken at its own word, but at that of a node that is known. When an unknown node
comes, this one asks all that it knows for the members (MembersQuery), in each tick until the node is known or
comes no more. One answer is enough, and whoever gives it has shown in a handshake which node it is.

The answer comes if one member that this node knows runs and is reached. If all of them were removed while
this node was down, or have crashed, it refuses the others, even if the cluster has no leader without it. The
operator starts it with a `--cluster` that names a present member, or starts one that has crashed. With a
cluster secret nobody has to answer.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.peers.wire import Members, MembersQuery
from raftkv_trio.raft.confchange import decode_conf_change
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import Entry, EntryType

#: Bound of the nodes that have come, and that the words of others may name.
MAX_NEWCOMERS = 64


class KnownNodes:
    """The nodes that may say something to this one, and the questions about others.

    Args:
        configured: the ids of the members that this process was configured with.
        entries: of the log, those that are not applied yet among them.
        envelope: see Attributes; at first, as of the last entry that is known to be committed.
        confirmed: called with the id of a known node, and the addresses of members that this node knows by
            its word.

    Attributes:
        envelope: the members as applied, and the removed ids.
    """

    def __init__(
        self,
        raw: RawNode,
        *,
        configured: Collection[int],
        entries: Iterable[Entry],
        envelope: Envelope,
        confirmed: Callable[[int, Mapping[int, PeerAddress]], None],
    ) -> None:
        self._raw = raw
        self._configured = frozenset(configured)
        self.envelope = envelope
        self._confirmed = confirmed
        self._appended: dict[int, int] = {}  # node id -> index of the change in the log that names it
        self._named_by: dict[int, Mapping[int, PeerAddress]] = {}  # what the known nodes say
        self._proved: set[int] = set()  # bounded by who is told to `Peers`
        self._came: dict[int, None] = {}  # ids that were not known; the last one came last
        self._is_asking = False
        self.appended(entries)

    def __contains__(self, node_id: int) -> bool:
        if self._raw.is_member(node_id) or node_id in self._appended:
            return True
        envelope = self.envelope
        return node_id not in envelope.removed and (
            node_id in envelope.members
            or node_id in self._configured
            or node_id in self._proved
            or any(node_id in named for named in self._named_by.values())
        )

    def appended(self, entries: Iterable[Entry]) -> None:
        """These entries are in the log now. One that is overwritten later was still named by a leader."""
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                try:
                    changes = decode_conf_change(entry).as_v2().changes
                except InvalidConfiguration:
                    continue  # it names nobody
                named = [change.node_id for change in changes if change.node_id]  # 0 is no node
                self._appended.update(dict.fromkeys(named, entry.index))

    # ------------------------------------------------------------ nodes that are not known

    def came(self, node_id: int) -> None:
        """A node that is not known wants to say something. Ask about it, unless it was removed."""
        if node_id in self.envelope.removed:
            return
        self._is_asking = True
        self._came.pop(node_id, None)
        self._came[node_id] = None
        if len(self._came) > MAX_NEWCOMERS:  # a node that gives way comes again, and is asked about again
            del self._came[next(iter(self._came))]

    def proved(self, node_id: int) -> None:
        """A node has proved the cluster's secret, and is connected until `parted`."""
        self._proved.add(node_id)

    def parted(self, node_id: int) -> None:
        """A node that has proved the cluster's secret is not connected any more."""
        self._proved.discard(node_id)

    def tick(self, peers: PeerTransport) -> None:
        """Ask all known nodes for the members, if a node has come since the last tick that is not known."""
        if self._appended:
            applied = self._raw.applied
            self._appended = {i: index for i, index in self._appended.items() if index > applied}
        self._drop_words()
        if self._is_asking:
            self._is_asking = False
            named = {node_id for names in self._named_by.values() for node_id in names}
            for node_id in sorted({*self.envelope.members, *self._configured, *named} - {self._raw.id}):
                peers.offer(node_id, (MembersQuery(),))

    def asked(self, peer_id: int, peers: PeerTransport) -> None:
        """A known node asks for the members: tell it those that are applied here."""
        peers.offer(peer_id, (Members(self.envelope.addresses),))

    def told(self, peer_id: int, members: Members) -> None:
        """A known node tells the members as it knows them."""
        # The last word of each node replaces the one before. So what is kept has a bound.
        named = {i: address for i, address in members.addresses.items() if i in self._came}
        self._named_by[peer_id] = named
        self._drop_words()
        envelope = self.envelope
        self._confirmed(
            peer_id,
            {
                node_id: address
                for node_id, address in named.items()
                if node_id not in envelope.members and node_id not in envelope.removed
            },
        )

    def _drop_words(self) -> None:
        """Keep the words of nodes that are known without them, and of no removed ones."""
        words = {i: named for i, named in self._named_by.items() if i not in self.envelope.removed}
        self._named_by = {}
        # From the nodes that need nobody's word on: nodes that name only each other are not reached.
        while heard := [node_id for node_id in words if node_id in self]:
            self._named_by.update((node_id, words.pop(node_id)) for node_id in heard)
