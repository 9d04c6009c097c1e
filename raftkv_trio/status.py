"""What a node says of itself and of the others, for operators."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node as it sees itself.

    Attributes:
        snapshot_index: of the newest snapshot here; the log holds what follows.
        role: follower, pre_candidate, candidate or leader.
        leader_id: None while none is known.
        health: None where all is well, else one sentence on what is not.
        leader_contact_age_s: time since a leader was heard from, on the leader since it last worked; None
            before the first.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """One member of the configuration.

    Attributes:
        client_url: where clients reach it, as it told; None until it has been met, or if it tells nothing.
        promote: how a learner becomes a voter: "auto", or "manual" by an operator.
        is_active: whether the leader has heard of it within an election timeout.
        match, state, is_active: None where this node does not lead.
        snapshot: how far a snapshot on its way between that member and this node has come, in words; None
            where there is none.
    """

    id: int
    url: str
    client_url: str | None
    role: str
    promote: str
    is_active: bool | None
    match: int | None
    state: str | None
    snapshot: str | None
