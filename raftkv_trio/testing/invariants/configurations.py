"""Which configuration is in force from which index on, by what is committed: to compare with what nodes have.

A configuration counts from where its entry is applied (etcd's rule), and not from where it is appended (the
dissertation's). What makes that safe is that a change is appended only when its leader has applied the one
before: whoever has the second in its log was told with it that the first is committed, so that nobody who
campaigns is more than one change behind.
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
    """In force from `from_index` on; `removed` are all ids that were members and are none any more."""

    from_index: int
    conf_state: ConfState
    removed: frozenset[int] = frozenset()


class Configurations:
    """All configurations of one cluster so far; whatever does not fit them raises Violation.

    Args:
        first: that of the bootstrap.
    """

    def __init__(self, first: ConfState, from_index: int) -> None:
        self._all = [Configuration(from_index, first)]
        self._indexes = [from_index]
        self._envelopes: dict[int, Envelope] = {}  # by the index of the change that it is behind

    @property
    def newest(self) -> Configuration:
        return self._all[-1]

    def at(self, index: int) -> Configuration:
        """That of whoever has applied everything up to `index`."""
        return self._all[max(0, bisect_right(self._indexes, index) - 1)]

    def take(self, entry: Entry) -> Configuration:
        """A conf change is committed."""
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
        """A node has this one, and has applied everything up to `index`."""
        due = self.at(index)
        if conf != due.conf_state:
            raise Violation(
                CONFIGURATION, f"node {node_id} has {conf} at index {index}, and not {due.conf_state}"
            )
        return due

    def check_members(self, node_id: int, index: int, membership: Membership) -> None:
        """A node knows these members, and has applied everything up to `index`."""
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
    """The voters, and while it is joint also those of the outgoing half: a quorum has a majority of each."""
    return [half for half in (conf.voters, conf.voters_outgoing) if half]
