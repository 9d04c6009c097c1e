"""When a node may forget by which data directory it knows a member: a stranger was first under that id.

From then on the next one that comes under that id is taken for the member, with another directory. So what
the one before has promised must not count any more:

- A voter may have voted, and what it acknowledged may be committed because of that. The next one knows
  nothing of it: it could vote twice in one term (paper, section 5.2), or elect a leader without committed
  entries (section 5.4.1). Nobody can tell which votes a voter has given, so no voter is forgotten.
- A learner's votes and acknowledgements count nowhere. But the leader takes the next one for a member that
  has lost what this one acknowledged (`lost_entries.py`), until another node leads.

In both cases a removal is the cure: a removed id never comes back. What is left is a learner that has
acknowledged nothing: it was just added, and the stranger has not caught up.
"""

from raftkv_trio.errors import ChangeRefused, NoSuchMember
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole


def objection_to_forgetting(node_id: int, raw: RawNode) -> ChangeRefused | None:
    """Why that node's directory must not be forgotten, as far as this node knows; None if it may be.

    Only a leader knows what a learner has acknowledged. So the leader is asked before the others are.
    """
    leads = raw.role is StateRole.LEADER
    if not raw.is_member(node_id):
        # A follower may be behind. It knows no directory of a node that is no member yet.
        return NoSuchMember(f"node {node_id} is not a member of this cluster") if leads else None
    if not raw.is_learner(node_id):
        return ChangeRefused(
            f"node {node_id} is a voter, and another node under its id would not know how it has voted;"
            " remove it and add the node under a new id"
        )
    if not leads:
        return None
    if raw.is_changing:  # perhaps a promotion, by force
        return ChangeRefused("an earlier change of members is not complete yet; retry later")
    acknowledged = raw.status().progress[node_id].match
    if acknowledged:  # a new node has nothing, whose index is 0
        return ChangeRefused(
            f"node {node_id} has acknowledged entries up to {acknowledged}, which another node under its id"
            " would not have; remove it and add the node under a new id"
        )
    return None
