"""Random calls of the services KV and Lease, right and wrong, over few keys and leases, so that they meet."""

from typing import Any

from hypothesis import strategies as st

from raftkv_trio.schema import rpc_pb2

keys = st.sampled_from([b"a", b"aa", b"ab", b"b", b"c", b"\xff", b"\x00"])
any_keys = st.one_of(keys, keys, keys, keys, st.just(b""))
ends = st.one_of(st.just(b""), st.just(b""), keys, st.just(b"\x00"), st.just(b"d"))
values = st.sampled_from([b"", b"1", b"2", b"10", b"\xff\x00"])
small = st.integers(-1, 6)
flags = st.booleans()
#: Granted are some of them, for so long that none expires.
LEASES = (7, 8, 9)
leases = st.sampled_from([*LEASES, *LEASES, 10, 0])


def sparse(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these fields, each with its value."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def ranges(draw: st.DrawFn) -> rpc_pb2.RangeRequest:
    more = draw(
        sparse(
            range_end=ends,
            limit=st.integers(-1, 4),
            sort_order=st.integers(0, 2),
            sort_target=st.integers(0, 3),  # values may be equal, and etcd's sort is not stable
            keys_only=flags,
            count_only=flags,
            serializable=flags,
        )
    )
    bounds = draw(
        st.one_of(
            st.just({}),
            sparse(
                min_mod_revision=small,
                max_mod_revision=small,
                min_create_revision=small,
                max_create_revision=small,
            ),
        )
    )
    request = rpc_pb2.RangeRequest(key=draw(any_keys), **more, **bounds)
    if draw(st.integers(0, 3)) == 0:
        request.revision = draw(st.integers(-6, 2)) or -1  # made absolute before it is sent
    return request


@st.composite
def puts(draw: st.DrawFn) -> rpc_pb2.PutRequest:
    unusual = draw(
        st.one_of(
            st.just({}),
            st.just({}),
            sparse(
                prev_kv=flags, ignore_value=flags, ignore_lease=flags, lease=st.sampled_from([0, *LEASES])
            ),
        )
    )
    return rpc_pb2.PutRequest(key=draw(any_keys), value=draw(values), **unusual)


@st.composite
def deletes(draw: st.DrawFn) -> rpc_pb2.DeleteRangeRequest:
    return rpc_pb2.DeleteRangeRequest(key=draw(any_keys), range_end=draw(ends), prev_kv=draw(flags))


@st.composite
def compares(draw: st.DrawFn) -> rpc_pb2.Compare:
    operand = draw(
        st.one_of(
            st.builds(lambda n: {"version": n}, small),
            st.builds(lambda n: {"create_revision": n}, small),
            st.builds(lambda n: {"mod_revision": n}, small),
            st.builds(lambda v: {"value": v}, values),
            st.builds(lambda n: {"lease": n}, st.sampled_from([0, 1, *LEASES])),
        )
    )
    targets = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
    [field] = operand
    target = targets[field] if draw(st.integers(0, 9)) else draw(st.integers(0, 5))
    fields: dict[str, Any] = {"result": draw(st.integers(0, 4)), "target": target, **operand}
    return rpc_pb2.Compare(key=draw(any_keys), range_end=draw(ends), **fields)


@st.composite
def txns(draw: st.DrawFn, depth: int = 2) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(
        compare=draw(st.lists(compares(), max_size=2)),
        success=draw(st.lists(operations(depth), max_size=4)),
        failure=draw(st.lists(operations(depth), max_size=3)),
    )


@st.composite
def operations(draw: st.DrawFn, depth: int) -> rpc_pb2.RequestOp:
    kind = draw(st.integers(0, 9))
    if kind < 3:
        return rpc_pb2.RequestOp(request_range=draw(ranges()))
    if kind < 7:
        return rpc_pb2.RequestOp(request_put=draw(puts()))
    if kind < 8:
        return rpc_pb2.RequestOp(request_delete_range=draw(deletes()))
    if kind < 9 and depth:
        return rpc_pb2.RequestOp(request_txn=draw(txns(depth - 1)))
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=draw(keys), value=draw(values)))


@st.composite
def compactions(draw: st.DrawFn) -> rpc_pb2.CompactionRequest:
    return rpc_pb2.CompactionRequest(revision=draw(st.integers(-4, 1)) or -1, physical=draw(flags))


@st.composite
def lease_calls(draw: st.DrawFn) -> Any:
    lease_id = draw(leases)
    match draw(st.integers(0, 5)):
        case 0 | 1 if lease_id:
            ttl_s = draw(st.sampled_from([10_000, 20_000, 9_000_000_000, 9_000_000_001]))
            return rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl_s)
        case 2:
            return rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=draw(flags))
        case 3:
            return rpc_pb2.LeaseLeasesRequest()
        case 4:
            return rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
    return rpc_pb2.LeaseRevokeRequest(ID=lease_id)


calls = st.one_of(
    *(ranges(), ranges(), puts(), puts(), puts(), deletes(), txns(), txns(), compactions()),
    *(lease_calls(), lease_calls(), lease_calls()),
)
