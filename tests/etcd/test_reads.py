"""What may answer without a quorum, and what no handler reads while a snapshot is being restored."""

from types import SimpleNamespace
from typing import Any

import pytest

from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.maintenance import MaintenanceHandlers
from raftkv_trio.etcd.operations import is_serializable
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.schema import rpc_pb2


def reading(*, serializable: bool) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a", serializable=serializable))


def test_which_txns_need_no_quorum() -> None:
    """Only those whose operations all are ranges that say so; neither nested txns nor compares alone do."""
    old, new = reading(serializable=True), reading(serializable=False)
    assert is_serializable(rpc_pb2.TxnRequest(success=[old], failure=[old, old]))
    assert not is_serializable(rpc_pb2.TxnRequest(success=[old], failure=[new]))
    for inner in (old, new):
        nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=[inner]))
        assert not is_serializable(rpc_pb2.TxnRequest(success=[nested]))
        assert not is_serializable(rpc_pb2.TxnRequest(success=[old, nested]))
    assert not is_serializable(rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=b"a")]))


class Restoring:
    """A node that restores a snapshot: its store must not be read."""

    id, cluster_id, term, is_restoring = 1, 7, 3, True

    def members(self) -> list[Any]:
        return []

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(id=1, leader_id=2, term=3, commit_index=9, applied_index=5)


async def test_a_store_that_is_being_restored_is_not_read() -> None:
    """It has no hash, which would look like damage; the status says why it has no revision."""
    replicated: Any = SimpleNamespace(node=Restoring(), store=None)
    config: Any = None
    handlers = MaintenanceHandlers(replicated, config)
    for call in (
        handlers.hash(rpc_pb2.HashRequest(), Call({})),
        handlers.hash_kv(rpc_pb2.HashKVRequest(), Call({})),
    ):
        with pytest.raises(RpcError, match="unhealthy") as caught:
            await call
        assert caught.value.code == Code.UNAVAILABLE
    status = await handlers.status(rpc_pb2.StatusRequest(), Call({}))
    assert (status.header.revision, status.dbSize, list(status.errors)) == (
        0,
        0,
        ["etcdserver: unhealthy cluster"],
    )
