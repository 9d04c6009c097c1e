"""Changes of a configuration (paper, section 6): their bytes in an entry, and what they do.

A change of one voter at most may take effect at once ("simple"; dissertation 4.1). Any other change goes
through a joint configuration, in which the majorities of both halves decide, and which an empty change
leaves. Everything here is a pure function of ConfStates.

Invariants of a configuration:

- No id is a voter (incoming or outgoing) and a learner at once.
- `learners_next` are voters of the outgoing half only. They become learners when the joint configuration is
  left.
- `learners_next` and `auto_leave` are set only in a joint configuration.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.types import ConfState, Entry, EntryType


class ConfChangeType(IntEnum):
    """What happens to one node. The numbers are part of the log format."""

    ADD_VOTER = 0
    REMOVE = 1
    UPDATE = 2
    ADD_LEARNER = 3


class Transition(IntEnum):
    """Whether a change goes through a joint configuration, and what ends it.

    The numbers are part of the log format.
    """

    #: Joint only if there is more than one change; left automatically.
    AUTO = 0
    #: Joint; left automatically.
    IMPLICIT = 1
    #: Joint; left by an empty change that a client proposes.
    EXPLICIT = 2


class ConfChangeSingle(NamedTuple):
    """The change of one node, as a part of a `ConfChangeV2`."""

    type: ConfChangeType
    node_id: int


class ConfChange(NamedTuple):
    """A change of one node, always simple. `context` belongs to the proposer; the core does not read it."""

    type: ConfChangeType
    node_id: int
    context: bytes = b""

    def as_v2(self) -> "ConfChangeV2":
        """The same change as a list of one."""
        return ConfChangeV2((ConfChangeSingle(self.type, self.node_id),), Transition.AUTO, self.context)


class ConfChangeV2(NamedTuple):
    """Changes that take effect together. Without changes, it leaves a joint configuration."""

    changes: tuple[ConfChangeSingle, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    def as_v2(self) -> "ConfChangeV2":
        """This change itself."""
        return self

    @property
    def leaves_joint(self) -> bool:
        """Whether it leaves a joint configuration: it has no changes."""
        # Without changes but with another transition it would enter a joint configuration of two equal
        # halves.
        return not self.changes and self.transition is Transition.AUTO

    @property
    def uses_joint(self) -> bool:
        """Whether it goes through a joint configuration: as asked for, or because of several changes."""
        # AUTO counts changes, not voters: two learners go through a joint configuration too, as in etcd.
        return self.transition is not Transition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        """Whether the leader leaves the joint configuration by itself, as soon as it is applied."""
        return self.transition is not Transition.EXPLICIT


# ---------------------------------------------------------------- bytes

# A header, the changes, and then, up to the end of the entry, the context. The form is this project's own: an
# entry has to be read by its own nodes only, so etcd's protocol buffers would be of no use.
_HEADER = struct.Struct(">BI")  # transition, number of changes
_CHANGE = struct.Struct(">BQ")  # type, node id


def conf_change_entry(change: ConfChange | ConfChangeV2) -> Entry:
    """The entry that proposes `change`; the leader gives it term and index."""
    kind = EntryType.CONF_CHANGE if isinstance(change, ConfChange) else EntryType.CONF_CHANGE_V2
    v2 = change.as_v2()
    # Leaving a joint configuration takes no bytes, so the limit of uncommitted bytes never refuses it.
    if not v2.changes and v2.transition is Transition.AUTO and not v2.context:
        return Entry(0, 0, kind)
    try:
        changes = [_CHANGE.pack(*single) for single in v2.changes]
    except struct.error as error:
        raise InvalidConfiguration("a node id in a conf change is outside 0..2**64-1") from error
    header = _HEADER.pack(v2.transition, len(changes))
    return Entry(0, 0, kind, b"".join([header, *changes, v2.context]))


def decode_conf_change(entry: Entry) -> ConfChange | ConfChangeV2:
    """Decode the change that an entry holds; raises InvalidConfiguration for any other bytes."""
    # Strict, because every node must make the same of the same bytes, or the configurations diverge.
    data = entry.data
    if not data:
        v2 = ConfChangeV2()
    else:
        try:
            transition, count = _HEADER.unpack_from(data)
            end = _HEADER.size + count * _CHANGE.size
            body = data[_HEADER.size : end]
            changes = tuple([ConfChangeSingle(ConfChangeType(k), i) for k, i in _CHANGE.iter_unpack(body)])
            v2 = ConfChangeV2(changes, Transition(transition), data[end:])
        except (struct.error, ValueError) as error:
            raise InvalidConfiguration(f"entry {entry.index} holds no valid conf change") from error
        if len(changes) != count:
            raise InvalidConfiguration(f"entry {entry.index} holds a conf change that is cut off")
    if entry.type is EntryType.CONF_CHANGE_V2:
        return v2
    # Both types share one form of bytes; the first allows one change only.
    if len(v2.changes) != 1:
        raise InvalidConfiguration(f"entry {entry.index} must hold one change, not {len(v2.changes)}")
    return ConfChange(*v2.changes[0], v2.context)


# ---------------------------------------------------------------- configurations


def is_joint(conf: ConfState) -> bool:
    """Whether `conf` is a joint configuration (paper, section 6)."""
    return bool(conf.voters_outgoing)


def all_voters(conf: ConfState) -> tuple[int, ...]:
    """Voters of both halves, sorted."""
    if not conf.voters_outgoing:
        return conf.voters
    return tuple(sorted({*conf.voters, *conf.voters_outgoing}))


def all_members(conf: ConfState) -> tuple[int, ...]:
    """Voters of both halves and learners, sorted."""
    return tuple(sorted({*conf.voters, *conf.voters_outgoing, *conf.learners}))


def normalized(conf: ConfState) -> ConfState:
    """`conf` with its ids sorted; raises InvalidConfiguration if it breaks an invariant."""
    # A configuration may come from another node's snapshot, so nothing about it is taken for granted.
    for ids in conf[:4]:
        if len(set(ids)) != len(ids) or any(i <= 0 for i in ids):
            raise InvalidConfiguration(
                f"a configuration names an id twice, or an id that is not positive: {conf}"
            )
    voters, learners, outgoing, learners_next = map(set, conf[:4])
    # A learner counts in no quorum, a voter does; for an id that is both there would be two answers.
    if learners & (voters | outgoing):
        raise InvalidConfiguration(f"a node is voter and learner at once: {conf}")
    # Only these have to wait. Any other node can become a learner at once.
    if not learners_next <= outgoing - voters:
        raise InvalidConfiguration(f"learners_next must be voters of the outgoing half only: {conf}")
    if not outgoing and conf.auto_leave:
        raise InvalidConfiguration(f"auto_leave is set, but the configuration is not joint: {conf}")
    # Without any member it is the configuration of a node that has not joined a cluster yet.
    if not voters and (outgoing or learners):
        raise InvalidConfiguration(f"a configuration has no voters: {conf}")
    return _conf_state(voters, learners, outgoing, learners_next, conf.auto_leave)


def describe(conf: ConfState) -> str:
    """A configuration as etcd logs it: `voters=(1 2)&&(1) learners=(3)`."""
    text = f"voters=({_ids(conf.voters)})"
    if conf.voters_outgoing:
        text += f"&&({_ids(conf.voters_outgoing)})"
    if conf.learners:
        text += f" learners=({_ids(conf.learners)})"
    if conf.learners_next:
        text += f" learners_next=({_ids(conf.learners_next)})"
    return text + (" autoleave" if conf.auto_leave else "")


def describe_members(conf: ConfState) -> str:
    """A configuration as etcd's protocol buffers print it: `voters:1 learners:3 auto_leave:false`."""
    fields = [f"{name}:{i}" for name, ids in zip(conf._fields[:4], conf[:4], strict=True) for i in ids]
    return " ".join([*fields, f"auto_leave:{'true' if conf.auto_leave else 'false'}"])


_TYPE_NAMES = {
    ConfChangeType.ADD_VOTER: "ConfChangeAddNode",
    ConfChangeType.REMOVE: "ConfChangeRemoveNode",
    ConfChangeType.UPDATE: "ConfChangeUpdateNode",
    ConfChangeType.ADD_LEARNER: "ConfChangeAddLearnerNode",
}
_TRANSITION_NAMES = {
    Transition.AUTO: "ConfChangeTransitionAuto",
    Transition.IMPLICIT: "ConfChangeTransitionJointImplicit",
    Transition.EXPLICIT: "ConfChangeTransitionJointExplicit",
}


def describe_change(change: ConfChange | ConfChangeV2) -> str:
    """A change as etcd logs it: a `ConfChange`, too, in the form of a `ConfChangeV2`."""
    v2 = change.as_v2()
    changes = [f" changes:{{type:{_TYPE_NAMES[kind]} node_id:{node_id}}}" for kind, node_id in v2.changes]
    return f"transition:{_TRANSITION_NAMES[v2.transition]}{''.join(changes)}"


def _ids(ids: Iterable[int]) -> str:
    return " ".join(map(str, ids))


# ---------------------------------------------------------------- what a change does


class Changed(NamedTuple):
    """A new configuration.

    Attributes:
        dropped: ids that a part of the change removed. What a leader knew of their logs is void, even if a
            later part of the same change adds them again.
    """

    conf_state: ConfState
    dropped: frozenset[int]


def apply_change(conf: ConfState, change: ConfChange | ConfChangeV2) -> Changed:
    """The configuration after `change`. Raises InvalidConfiguration if `change` does not fit `conf`."""
    v2 = change.as_v2()
    if v2.leaves_joint:
        return leave_joint(conf)
    if v2.uses_joint:
        return enter_joint(conf, v2.changes, auto_leave=v2.auto_leave)
    return simple(conf, v2.changes)


def simple(conf: ConfState, changes: Iterable[ConfChangeSingle]) -> Changed:
    """Change one voter at most, and any number of learners, at once (dissertation, section 4.1)."""
    # A joint configuration is left before anything else changes (section 6).
    if is_joint(conf):
        raise InvalidConfiguration("can't apply simple config change in joint config")
    edit = _Edit(conf)
    edit.apply(changes)
    # Majorities of two sets of voters that differ by one voter always overlap (dissertation 4.1), so there
    # cannot be two leaders in one term, though nodes change over at different times. Two voters more or less,
    # or one voter in place of another, do not have this property.
    if len(edit.voters.symmetric_difference(conf.voters)) > 1:
        raise InvalidConfiguration("more than one voter changed without entering joint config")
    return edit.result(auto_leave=False)


def enter_joint(conf: ConfState, changes: Iterable[ConfChangeSingle], *, auto_leave: bool) -> Changed:
    """The joint configuration of the voters before and after `changes` (paper, section 6)."""
    if is_joint(conf):
        raise InvalidConfiguration("config is already joint")
    # An empty outgoing half would mean that the configuration is not joint.
    if not conf.voters:
        raise InvalidConfiguration("can't make a zero-voter config joint")
    # In a joint configuration, elections and commits need a majority of each half. So of the configurations
    # before, joint and after, each overlaps with the next, whatever the changes are.
    edit = _Edit(conf)
    edit.outgoing = set(edit.voters)
    edit.apply(changes)
    return edit.result(auto_leave=auto_leave)


def leave_joint(conf: ConfState) -> Changed:
    """The incoming half alone. Voters of the outgoing half only become learners, or leave."""
    if not is_joint(conf):
        raise InvalidConfiguration("can't leave a non-joint config")
    # This needs no comparison of majorities: the entry that leaves was committed by majorities of both
    # halves.
    edit = _Edit(conf)
    edit.learners |= edit.learners_next
    edit.dropped = edit.outgoing - edit.voters - edit.learners
    edit.outgoing, edit.learners_next = set(), set()
    return edit.result(auto_leave=False)


class _Edit:
    """A configuration as sets that can be changed.

    Attributes:
        dropped: as in `Changed`.
    """

    def __init__(self, conf: ConfState) -> None:
        self.voters, self.learners, self.outgoing, self.learners_next = map(set, conf[:4])
        self.dropped: set[int] = set()

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        for kind, node_id in changes:
            if node_id == 0:
                # As in etcd, where a proposer may blank out a part of a change like this.
                continue
            # UPDATE changes nothing here. Its entry carries what the proposer wants to tell, as in etcd.
            if kind is ConfChangeType.ADD_VOTER:
                # A learner keeps its progress when it is promoted: its log is known (dissertation 4.2.1).
                self.learners.discard(node_id)
                self.learners_next.discard(node_id)
                self.voters.add(node_id)
            elif kind is ConfChangeType.ADD_LEARNER:
                self.voters.discard(node_id)
                # A voter of the outgoing half has to vote until that half is gone; only then it may be a
                # learner.
                (self.learners_next if node_id in self.outgoing else self.learners).add(node_id)
            elif kind is ConfChangeType.REMOVE:
                self._remove(node_id)
        # Without voters nothing could ever be committed again, not even a change that adds one.
        if not self.voters:
            raise InvalidConfiguration("removed all voters")

    def _remove(self, node_id: int) -> None:
        for ids in (self.voters, self.learners, self.learners_next):
            ids.discard(node_id)
        # A voter of the outgoing half still counts in quorums, so the leader goes on tracking its log. It is
        # dropped when the joint configuration is left.
        if node_id not in self.outgoing:
            self.dropped.add(node_id)

    def result(self, *, auto_leave: bool) -> Changed:
        conf = _conf_state(self.voters, self.learners, self.outgoing, self.learners_next, auto_leave)
        return Changed(conf, frozenset(self.dropped))


def _conf_state(
    voters: set[int], learners: set[int], outgoing: set[int], learners_next: set[int], auto_leave: bool
) -> ConfState:
    return ConfState(
        tuple(sorted(voters)),
        tuple(sorted(learners)),
        tuple(sorted(outgoing)),
        tuple(sorted(learners_next)),
        auto_leave,
    )
