"""Which configuration is in force from which index on, according to the committed entries.

A configuration counts from the point where its entry is applied (etcd's rule), not from where it is appended
(the dissertation's rule). This is safe because a leader appends a change only after it has applied the change
before. A node that has the second change in its log was told with it that the first is committed, so no
candidate is more than one change behind.
"""

from bisect import bisect_right
from typing import NamedTuple

from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Membership
from raftkv_trio.raft.confchange import all_members, apply_change, decode_conf_change
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.types import ConfState, Entry
from raftkv_trio.testing.invariants.violation import CONFIGURATION, REMOVED, Violation


class Configuration(NamedTuple):
    """In force from `from_index` on; `removed` holds the ids of all former members."""

    from_index: int
    conf_state: ConfState
    removed: frozenset[int] = frozenset()


class Configurations:
    """All committed configurations of one cluster so far; the checks raise Violation.

    Args:
        first: the configuration of the bootstrap.
        from_index: index of the bootstrap's snapshot.
    """

    def __init__(self, first: ConfState, from_index: int) -> None:
        self._all = [Configuration(from_index, first)]
        self._indexes = [from_index]
        self._envelopes: dict[int, Envelope] = {}  # by the index of the change that it is behind

    @property
    def newest(self) -> Configuration:
        """The newest committed configuration."""
        return self._all[-1]

    def at(self, index: int) -> Configuration:
        """The configuration of a node that has applied everything up to `index`."""
        return self._all[max(0, bisect_right(self._indexes, index) - 1)]

    def take(self, entry: Entry) -> Configuration:
        """Take a committed conf change; raises Violation if it cannot be applied, or re-adds a removed id."""
        before = self.newest
        try:
            conf = apply_change(before.conf_state, decode_conf_change(entry)).conf_state
        except InvalidConfiguration as error:
            raise Violation(CONFIGURATION, f"committed entry {entry.index} is no change: {error}") from error
        if back := before.removed.intersection(all_members(conf)):
            raise Violation(REMOVED, f"entry {entry.index} adds {sorted(back)}, which were removed before")
        gone = set(all_members(before.conf_state)) - set(all_members(conf))
        self._all.append(Configuration(entry.index, conf, before.removed | gone))
        self._indexes.append(entry.index)
        return self.newest

    def check(self, node_id: int, index: int, conf: ConfState) -> Configuration:
        """Check the configuration `conf` of a node that has applied everything up to `index`."""
        due = self.at(index)
        if conf != due.conf_state:
            raise Violation(
                CONFIGURATION, f"node {node_id} has {conf} at index {index}, and not {due.conf_state}"
            )
        return due

    def check_members(self, node_id: int, index: int, membership: Membership) -> None:
        """Check the members that a node knows, which has applied everything up to `index`."""
        due = self.check(node_id, index, membership.conf_state)
        envelope = membership.envelope
        known = self._envelopes.setdefault(due.from_index, envelope)
        fits = envelope.members.keys() == {*all_members(due.conf_state)}
        if known != envelope or not fits or envelope.removed.keys() != due.removed:
            raise Violation(
                CONFIGURATION,
                f"node {node_id} has the members {envelope} at index {index}, others {known}, of which the"
                f" configuration is {due}",
            )


def halves(conf: ConfState) -> list[tuple[int, ...]]:
    """The voters, and if it is joint the outgoing voters too: a quorum has a majority of each half."""
    return [half for half in (conf.voters, conf.voters_outgoing) if half]
