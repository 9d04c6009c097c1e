"""Headers of answers: what is put together is what protobuf would have made."""

from types import SimpleNamespace
from typing import Any

from raftkv_trio.etcd.headers import EncodedHeaders, header_of
from raftkv_trio.etcd.protobuf import varint
from raftkv_trio.schema import rpc_pb2

NUMBERS = [1, 2, 127, 128, 300, 2**14 - 1, 2**14, 2**31, 2**32 + 5, 2**63 - 1]


def test_headers_that_are_put_together() -> None:
    """For any revision and term, also if these come again, or one changes alone."""
    node = SimpleNamespace(cluster_id=2**64 - 3, id=200, term=1)
    replicated: Any = SimpleNamespace(node=node)
    headers = EncodedHeaders(replicated)
    for node.term in [*NUMBERS, 0, 1]:
        for revision in [*NUMBERS, *NUMBERS[::-1], *NUMBERS]:
            response = rpc_pb2.WatchResponse(header=header_of(replicated, revision))
            assert headers.of(revision) == response.SerializeToString()


def test_numbers() -> None:
    """As protobuf encodes them, those of no watch included."""
    for number in [0, -1, -(2**63), *NUMBERS]:
        response = rpc_pb2.WatchResponse(watch_id=number)
        assert (b"\x10" + varint(number) if number else b"") == response.SerializeToString()
