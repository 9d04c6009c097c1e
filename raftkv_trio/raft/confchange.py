"""Changes of a configuration (paper, section 6): what an entry says, its bytes, and what it does.

A change by at most one voter may be applied at once ("simple"); anything else goes through a joint
configuration, in which both majorities decide, and which another change leaves. Everything here is a pure
function of ConfStates.

Invariants of a configuration: no id is voter (incoming or outgoing) and learner at once; `learners_next` are
voters of the outgoing half that become learners on leaving; `learners_next` and `auto_leave` only while it is
joint.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.types import ConfState, Entry, EntryType


class ConfChangeType(IntEnum):
    """What happens to one node; the numbers stand in logs."""

    ADD_VOTER = 0
    REMOVE = 1
    UPDATE = 2
    ADD_LEARNER = 3


class Transition(IntEnum):
    """Whether a change goes through a joint configuration, and who ends it; the numbers stand in logs."""

    #: Joint only if there is more than one change; left automatically.
    AUTO = 0
    #: Joint; left automatically.
    IMPLICIT = 1
    #: Joint; left by an empty change that somebody proposes.
    EXPLICIT = 2


class ConfChangeSingle(NamedTuple):
    """One node's change."""

    type: ConfChangeType
    node_id: int


class ConfChange(NamedTuple):
    """A change of one node, always simple; `context` is the proposer's own."""

    type: ConfChangeType
    node_id: int
    context: bytes = b""

    def as_v2(self) -> "ConfChangeV2":
        """The same change as a list of one."""
        return ConfChangeV2((ConfChangeSingle(self.type, self.node_id),), Transition.AUTO, self.context)


class ConfChangeV2(NamedTuple):
    """Changes that take effect together; an empty one leaves a joint configuration."""

    changes: tuple[ConfChangeSingle, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    def as_v2(self) -> "ConfChangeV2":
        """This change itself."""
        return self

    @property
    def leaves_joint(self) -> bool:
        """Whether it has no changes, which means: leave the joint configuration."""
        return not self.changes and self.transition is Transition.AUTO

    @property
    def uses_joint(self) -> bool:
        """Whether it takes effect through a joint configuration: as asked for, or for several changes."""
        return self.transition is not Transition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        """Whether the leader leaves the joint configuration by itself, as soon as it is applied."""
        return self.transition is not Transition.EXPLICIT


# ---------------------------------------------------------------- bytes

_HEADER = struct.Struct(">BI")  # transition, number of changes; then the changes, then the context
_CHANGE = struct.Struct(">BQ")


def conf_change_entry(change: ConfChange | ConfChangeV2) -> Entry:
    """The entry that proposes `change`; the leader gives it term and index."""
    kind = EntryType.CONF_CHANGE if isinstance(change, ConfChange) else EntryType.CONF_CHANGE_V2
    v2 = change.as_v2()
    if not v2.changes and v2.transition is Transition.AUTO and not v2.context:
        return Entry(0, 0, kind)
    try:
        changes = [_CHANGE.pack(*single) for single in v2.changes]
    except struct.error as error:
        raise InvalidConfiguration("a node id in a conf change is not from 0 to 2**64-1") from error
    header = _HEADER.pack(v2.transition, len(changes))
    return Entry(0, 0, kind, b"".join([header, *changes, v2.context]))


def decode_conf_change(entry: Entry) -> ConfChange | ConfChangeV2:
    """The change that an entry holds; raises InvalidConfiguration for any other bytes."""
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
    if len(v2.changes) != 1:
        raise InvalidConfiguration(f"entry {entry.index} must hold one change, not {len(v2.changes)}")
    return ConfChange(*v2.changes[0], v2.context)


# ---------------------------------------------------------------- configurations


def is_joint(conf: ConfState) -> bool:
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
    """`conf` with its ids sorted; raises InvalidConfiguration where it breaks an invariant."""
    for ids in conf[:4]:
        if len(set(ids)) != len(ids) or any(i <= 0 for i in ids):
            raise InvalidConfiguration(
                f"a configuration names an id twice, or one that is not positive: {conf}"
            )
    voters, learners, outgoing, learners_next = map(set, conf[:4])
    if learners & (voters | outgoing):
        raise InvalidConfiguration(f"a node is voter and learner at once: {conf}")
    if not learners_next <= outgoing - voters:
        raise InvalidConfiguration(f"a learner-to-be is no outgoing voter, or still an incoming one: {conf}")
    if not outgoing and conf.auto_leave:
        raise InvalidConfiguration(f"a configuration that is not joint cannot be left: {conf}")
    if not voters and (outgoing or learners):
        raise InvalidConfiguration(f"a configuration without voters: {conf}")
    return _conf_state(voters, learners, outgoing, learners_next, conf.auto_leave)


def describe(conf: ConfState) -> str:
    """A configuration as the log tells it: `voters=(1 2)&&(1) learners=(3)`."""
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
    """A change as the log tells it, that of one node too in the form of `ConfChangeV2` (etcd's util.go)."""
    v2 = change.as_v2()
    changes = [f" changes:{{type:{_TYPE_NAMES[kind]} node_id:{node_id}}}" for kind, node_id in v2.changes]
    return f"transition:{_TRANSITION_NAMES[v2.transition]}{''.join(changes)}"


def _ids(ids: Iterable[int]) -> str:
    return " ".join(map(str, ids))


# ---------------------------------------------------------------- what a change does


class Changed(NamedTuple):
    """A new configuration; what was known of `dropped` ids is void, even if they are members again."""

    conf_state: ConfState
    dropped: frozenset[int]


def apply_change(conf: ConfState, change: ConfChange | ConfChangeV2) -> Changed:
    """The configuration after `change`; raises InvalidConfiguration, in which case nothing changes."""
    v2 = change.as_v2()
    if v2.leaves_joint:
        return leave_joint(conf)
    if v2.uses_joint:
        return enter_joint(conf, v2.changes, auto_leave=v2.auto_leave)
    return simple(conf, v2.changes)


def simple(conf: ConfState, changes: Iterable[ConfChangeSingle]) -> Changed:
    """Change at most one voter, and any learners, at once: old and new majorities still overlap."""
    if is_joint(conf):
        raise InvalidConfiguration("can't apply simple config change in joint config")
    edit = _Edit(conf)
    edit.apply(changes)
    if len(edit.voters.symmetric_difference(conf.voters)) > 1:
        raise InvalidConfiguration("more than one voter changed without entering joint config")
    return edit.result(auto_leave=False)


def enter_joint(conf: ConfState, changes: Iterable[ConfChangeSingle], *, auto_leave: bool) -> Changed:
    """The joint configuration of the present voters and those after `changes`."""
    if is_joint(conf):
        raise InvalidConfiguration("config is already joint")
    if not conf.voters:
        raise InvalidConfiguration("can't make a zero-voter config joint")
    edit = _Edit(conf)
    edit.outgoing = set(edit.voters)
    edit.apply(changes)
    return edit.result(auto_leave=auto_leave)


def leave_joint(conf: ConfState) -> Changed:
    """The incoming half alone; outgoing voters become what they are to be, or are gone."""
    if not is_joint(conf):
        raise InvalidConfiguration("can't leave a non-joint config")
    edit = _Edit(conf)
    edit.learners |= edit.learners_next
    edit.dropped = edit.outgoing - edit.voters - edit.learners
    edit.outgoing, edit.learners_next = set(), set()
    return edit.result(auto_leave=False)


class _Edit:
    """A configuration taken apart into sets."""

    def __init__(self, conf: ConfState) -> None:
        self.voters, self.learners, self.outgoing, self.learners_next = map(set, conf[:4])
        self.dropped: set[int] = set()

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        for kind, node_id in changes:
            if node_id == 0:
                continue  # etcd lets a proposer blank out a change like this
            if kind is ConfChangeType.ADD_VOTER:
                self.learners.discard(node_id)
                self.learners_next.discard(node_id)
                self.voters.add(node_id)
            elif kind is ConfChangeType.ADD_LEARNER:
                self.voters.discard(node_id)
                # who still votes in the outgoing half becomes a learner when that half is gone
                (self.learners_next if node_id in self.outgoing else self.learners).add(node_id)
            elif kind is ConfChangeType.REMOVE:
                self._remove(node_id)
        if not self.voters:
            raise InvalidConfiguration("removed all voters")

    def _remove(self, node_id: int) -> None:
        for ids in (self.voters, self.learners, self.learners_next):
            ids.discard(node_id)
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
