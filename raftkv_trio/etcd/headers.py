"""The header of every answer: which cluster and member it is from, and how far that member is."""

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.etcd.protobuf import field, varint
from raftkv_trio.schema import rpc_pb2

_HEADER = b"\x0a"  # field 1 of all responses
_REVISION = b"\x18"  # field 3 of ResponseHeader


def header_of(replicated: ReplicatedStore, revision: int | None = None) -> rpc_pb2.ResponseHeader:
    """The header of an answer.

    Args:
        revision: of the store, as of the answer; None: the answer names none.
    """
    node = replicated.node
    return rpc_pb2.ResponseHeader(
        cluster_id=node.cluster_id, member_id=node.id, raft_term=node.term, revision=revision or 0
    )


class EncodedHeaders:
    """The same, encoded as a field of a response. But for the revision a header is the same for a whole term.

    Streams of watches that are told of different revisions in turn have thousands made in a second.
    """

    def __init__(self, replicated: ReplicatedStore) -> None:
        self._node = replicated.node
        self._term: int | None = None
        self._before = self._after = b""  # what stands around the revision, of this term
        self._revision = 0
        self._last = b""  # of this term and revision

    def of(self, revision: int) -> bytes:
        """The header with this revision, which is positive."""
        if (term := self._node.term) != self._term:
            node, self._term, self._revision = self._node, term, 0
            before = rpc_pb2.ResponseHeader(cluster_id=node.cluster_id, member_id=node.id)
            self._before = before.SerializeToString()
            self._after = rpc_pb2.ResponseHeader(raft_term=term).SerializeToString()
        if revision != self._revision:
            content = b"%b%b%b%b" % (self._before, _REVISION, varint(revision), self._after)
            self._revision, self._last = revision, field(_HEADER, content)
        return self._last
