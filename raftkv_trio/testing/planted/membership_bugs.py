"""Bugs in changes of members, and in the quorums meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from raftkv_trio.node.snapshotter import Pinned, Snapshotter
from raftkv_trio.payload.membership import Membership
from raftkv_trio.raft import quorum, replication
from raftkv_trio.raft.confchange import is_joint
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.tracker import Tracker
from raftkv_trio.storage import NodeStorage
from raftkv_trio.testing.planted.bug import PlantedBug, bug, replaced

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "joint-commit-of-one-half",
    "in a joint configuration the new half alone commits",
    quorum,
    "joint_committed",
)
def _(original: Any) -> object:
    return lambda incoming, outgoing, acked: quorum.majority_committed(incoming, acked)


@bug(
    BUGS, "joint-vote-of-one-half", "in a joint configuration the new half alone elects", quorum, "joint_vote"
)
def _(original: Any) -> object:
    return lambda incoming, outgoing, votes: quorum.majority_vote(incoming, votes)


@bug(BUGS, "learner-counts", "a learner counts in a quorum", Tracker, "committed")
def _(original: Any) -> object:
    def committed(tracker: Tracker) -> int:
        conf, matches = tracker.conf_state, {i: p.match for i, p in tracker.progress.items()}
        return quorum.joint_committed((*conf.voters, *conf.learners), conf.voters_outgoing, matches)

    return committed


@bug(
    BUGS,
    "snapshot-of-other-members",
    "a snapshot has the configuration of the one before it",
    Snapshotter,
    "begin",
)
def _(original: Any) -> object:
    def begin(snapshotter: Any) -> Pinned:
        pinned: Pinned = original(snapshotter)
        before = snapshotter._storage.snapshot.conf_state
        return pinned._replace(meta=replace(pinned.meta, conf_state=before))

    return begin


@bug(BUGS, "removed-id-again", "a removed id is used again", Membership, "_objection")
def _(original: Any) -> object:
    def objection(membership: Membership, change: object) -> object:
        envelope, membership.envelope = membership.envelope, replace(membership.envelope, removed={})
        try:
            return original(membership, change)
        finally:
            membership.envelope = envelope

    return objection


@bug(
    BUGS,
    "removed-starts-again",
    "a removed node does not note its removal in its directory",
    NodeStorage,
    "mark_removed",
)
def _(original: Any) -> object:
    return lambda storage, index: None


@contextmanager
def _change_while_one_is_pending() -> Iterator[None]:
    original = replication._why_not

    def why_not(raft: Any, change: Any) -> str | None:
        pending, raft.pending_conf_index = raft.pending_conf_index, 0
        try:
            return original(raft, change)
        finally:
            raft.pending_conf_index = pending

    is_changing = property(lambda raw: is_joint(raw.raft.conf_state))
    with replaced(RawNode, "is_changing", is_changing), replaced(replication, "_why_not", why_not):
        yield


BUGS.append(
    PlantedBug(
        "change-while-one-is-pending",
        "a change is appended before the one ahead of it is applied",
        _change_while_one_is_pending,
    )
)
