"""What a node tells operators about itself and about the members."""

from collections.abc import Sequence
from dataclasses import dataclass

from raftkv_trio.node.measures import NodeMeasures, PeerMeasures
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.raft.types import StateRole


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node as it sees itself.

    Attributes:
        role: follower, pre_candidate, candidate or leader.
        leader_id: None while no leader is known.
        snapshot_index: of the newest snapshot on this node; the log has the entries after it.
        health: None if all is well; else what is wrong, in one sentence.
        leader_contact_age_s: seconds since this node heard from a leader; on the leader, since its last turn.
            None before the first leader.
        feature_level: of the cluster, as of what is applied here (`payload/levels.py`).
        highest_feature_level: the highest one that this node's program knows.
    """

    id: int
    cluster_id: int
    role: str
    leader_id: int | None
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    snapshot_index: int
    health: str | None
    leader_contact_age_s: float | None
    feature_level: int
    highest_feature_level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """One member of the configuration.

    Attributes:
        url: where its peers reach it.
        client_url, etcd_url: where clients reach its REST API and its etcd API, as the member announced; None
            before that, and if it serves none.
        role: voter or learner.
        promote: how a learner becomes a voter: "auto", by the leader, or "manual", by an operator.
        is_active: whether it acknowledges new entries (`driver/active_members.py`); None if this node does
            not lead.
        match: the last index that is known to be durable there; None if this node does not lead.
        state: probe, replicate or snapshot, as in etcd; None if this node does not lead.
        snapshot: the progress of a snapshot between that member and this node, in words; None if there is
            none.
        trouble: why this node has no connection to that member, in words; None if it has one, and of itself.
        highest_feature_level: the highest feature level that the member's program knows; None if this node
            has no connection to it.
    """

    id: int
    url: str
    client_url: str | None
    etcd_url: str | None
    role: str
    promote: str
    is_active: bool | None
    match: int | None
    state: str | None
    snapshot: str | None
    trouble: str | None
    highest_feature_level: int | None


class NodeView:
    """Reads the parts of a node, and changes none of them."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts

    def status(self) -> NodeStatus:
        """This node as it sees itself now."""
        raw = self._parts.raw
        return NodeStatus(
            id=self._parts.config.node_id,
            cluster_id=self._parts.storage.identity.cluster_id,
            role=raw.role.name.lower(),
            leader_id=raw.leader_id,
            term=raw.term,
            commit_index=raw.commit,
            applied_index=self._parts.applied.index,
            last_index=raw.last_index,
            snapshot_index=self._parts.storage.snapshot.index,
            health=self._health(),
            leader_contact_age_s=self._parts.leader.contact_age_s,
            feature_level=self._parts.membership.envelope.level,
            highest_feature_level=self._parts.levels.highest,
        )

    def measures(self) -> NodeMeasures:
        """What this node has counted and timed since it started."""
        return NodeMeasures(
            leader_changes=self._parts.leader.changes,
            proposals=self._parts.proposals.outcomes(),
            pending_proposals=len(self._parts.proposals),
            pending_bytes=self._parts.proposals.open_bytes,
            refusals=self._parts.refusals.counts,
            log_writes=self._parts.log_writer.writes.durations(),
            applies=self._parts.applier.applies.durations(),
            peers={
                node_id: PeerMeasures(
                    sent_bytes=outgoing.sent_bytes,
                    dropped_bytes=outgoing.outbox.dropped_bytes,
                    dropped_messages=outgoing.outbox.dropped_messages,
                    round_trips=self._parts.driver.round_trips.durations(node_id),
                )
                for node_id, outgoing in self._parts.peers.outgoing.items()
            },
        )

    def members(self) -> Sequence[MemberStatus]:
        """The members of the configuration, by id."""
        status = self._parts.raw.status()
        leads = status.role is StateRole.LEADER
        learners = set(self._parts.applier.membership.conf_state.learners)
        members = []
        for node_id, member in sorted(self._parts.applier.membership.envelope.members.items()):
            progress = status.progress.get(node_id)
            outgoing = self._parts.peers.outgoing.get(node_id)
            transfer = self._parts.peers.transfer(node_id)
            members.append(
                MemberStatus(
                    id=node_id,
                    url=member.address.url,
                    client_url=outgoing.client_url if outgoing else self._parts.config.client_url,
                    etcd_url=outgoing.etcd_url if outgoing else self._parts.config.etcd_url,
                    role="learner" if node_id in learners else "voter",
                    promote="manual" if member.is_promoted_by_hand else "auto",
                    is_active=node_id in self._parts.active if leads else None,
                    match=progress.match if progress else None,
                    state=progress.state.name.lower() if progress else None,
                    snapshot=transfer.text(self._parts.world.clock.now()) if transfer else None,
                    trouble=outgoing.trouble if outgoing else None,
                    highest_feature_level=(
                        outgoing.highest_level if outgoing else self._parts.levels.highest
                    ),
                )
            )
        return members

    def _health(self) -> str | None:
        if (lost := self._parts.lost_entries.reason) is not None:
            return lost
        if (twice := self._parts.peers.second_process.reason) is not None:
            return twice
        if (lags_because := self._parts.admission.lags_because) is not None:
            return lags_because
        if (shortage := self._parts.proposals.disk_shortage) is not None:
            return f"{shortage}; free some space"
        if self._parts.raw.leader_id is not None:
            return None
        if (unreached := self._parts.peers.unreached) is not None:
            return f"no leader is known; {unreached}"
        outgoing = self._parts.peers.outgoing.values()
        away = [f"node {peer.node_id}: {peer.trouble}" for peer in outgoing if peer.trouble]
        return "no leader is known; " + ("; ".join(away) if away else "an election is under way")
