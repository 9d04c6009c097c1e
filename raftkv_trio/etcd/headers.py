"""The header of every answer: which cluster and member it is from, and how far that member is."""

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.schema import rpc_pb2


def header_of(replicated: ReplicatedStore, revision: int | None = None) -> rpc_pb2.ResponseHeader:
    """The header of an answer.

    Args:
        revision: of the store, as of the answer; None: the answer names none.
    """
    node = replicated.node
    return rpc_pb2.ResponseHeader(
        cluster_id=node.cluster_id, member_id=node.id, raft_term=node.term, revision=revision or 0
    )
