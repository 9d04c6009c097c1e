"""Which requests want what they replace."""

import pytest

from raftkv_trio.etcd.operations import wants_previous
from raftkv_trio.schema import rpc_pb2

_PUT = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a", prev_kv=True))
_DELETE = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"a", prev_kv=True))
_PLAIN = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a"))
_INNER = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(failure=[_PLAIN, _PUT]))


@pytest.mark.parametrize("wanting", [_PUT, _DELETE, _INNER])
def test_one_operation_is_enough(wanting: rpc_pb2.RequestOp) -> None:
    """Wherever in a txn it stands: so its result must be remembered for a retry."""
    assert wants_previous(rpc_pb2.TxnRequest(success=[_PLAIN, wanting]))
    assert wants_previous(rpc_pb2.TxnRequest(failure=[wanting]))
    assert not wants_previous(rpc_pb2.TxnRequest(success=[_PLAIN], failure=[_PLAIN]))
    assert wants_previous(_PUT.request_put)
    assert not wants_previous(_PLAIN.request_put)
