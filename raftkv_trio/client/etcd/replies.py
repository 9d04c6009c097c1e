"""What the calls of `Client` return."""

from typing import NamedTuple

from raftkv_trio.kv import KeyValue


class PutReply(NamedTuple):
    """The result of a put.

    Attributes:
        revision: at which the key was put. Puts that were sent together have the same one.
        previous: what the put replaced, if that was asked for; None if the key did not exist.
    """

    revision: int
    previous: KeyValue | None


class DeleteReply(NamedTuple):
    """The result of a delete.

    Attributes:
        revision: the store's, after the delete.
        deleted: how many keys were deleted.
        previous: the key-values that were deleted, if that was asked for, in order of their keys.
    """

    revision: int
    deleted: int
    previous: tuple[KeyValue, ...]


class RangeReply(NamedTuple):
    """The result of a read.

    Attributes:
        revision: the store's when this was read. In a txn: see `GetResult` of `raftkv_trio.kv`.
        key_values: in order of their keys.
        in_range: how many the range has without the limit.
    """

    revision: int
    key_values: tuple[KeyValue, ...]
    in_range: int


class TxnReply(NamedTuple):
    """The result of a txn.

    Attributes:
        revision: the store's, after the txn; 0 of an inner txn.
        succeeded: whether all compares held.
        replies: one for each operation that was run.
    """

    revision: int
    succeeded: bool
    replies: "tuple[Reply, ...]"


Reply = PutReply | DeleteReply | RangeReply | TxnReply


class LeaseStatus(NamedTuple):
    """What a lease has left.

    Attributes:
        id: of the lease.
        ttl_s: how long it lives without another renewal, in seconds.
        granted_ttl_s: how long after a renewal.
        keys: that end with it, if that was asked for.
    """

    id: int
    ttl_s: int
    granted_ttl_s: int
    keys: tuple[bytes, ...]


class Member(NamedTuple):
    """A member of the cluster.

    Attributes:
        id: its id.
        name: empty while it has not started.
        peer_urls: where other members reach it.
        client_urls: where clients reach it.
        is_learner: whether it has no vote yet.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


class EndpointStatus(NamedTuple):
    """What the member at one endpoint says about itself.

    Attributes:
        endpoint: its URL.
        member_id: its id.
        version: of etcd, or of etcd's API.
        revision: that its store has reached.
        size_bytes: of its store.
        leader_id: whom it takes for the leader; None: there is none.
        raft_term, raft_index: how far its log is.
        is_learner: whether it has no vote yet.
    """

    endpoint: str
    member_id: int
    version: str
    revision: int
    size_bytes: int
    leader_id: int | None
    raft_term: int
    raft_index: int
    is_learner: bool
