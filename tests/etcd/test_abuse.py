"""A node under bad requests of etcd's API, by both transports: it goes on serving good clients."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from raftkv_trio.schema import rpc_pb2
from tests.etcd.attackers import ATTACKS
from tests.etcd.json.bodies import body
from tests.etcd.servers import PATIENCE_S, ApiServer, open_node
from tests.grpc.abuses import Abuse, abuses
from tests.nonsense import exchange

MAX_GROWTH_BYTES = 100_000_000
ROUNDS, ROUND_S = 5, 2.0


class GoodClient:
    """Puts over gRPC, on one connection."""

    def __init__(self, server: ApiServer) -> None:
        self._channel = server.channel()
        self._put = self._channel.unary_unary(
            "/etcdserverpb.KV/Put",
            request_serializer=rpc_pb2.PutRequest.SerializeToString,
            response_deserializer=rpc_pb2.PutResponse.FromString,
        )
        self.last_revision = 0

    def put(self) -> float:
        """Put once; returns how long it took, in seconds."""
        begin = time.perf_counter()
        answer = self._put(rpc_pb2.PutRequest(key=b"good", value=b"value"), timeout=PATIENCE_S)
        assert answer.header.revision > self.last_revision
        self.last_revision = answer.header.revision
        return time.perf_counter() - begin

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ApiServer]:
    with open_node(tmp_path, "--auto-compaction-retention", "1000") as node:
        yield node
        said = node.log.read_text()
        assert not re.search(r"Traceback|unexpected error|this is a bug", said), said[-3000:]


def endure(node: ApiServer, examples: int) -> None:
    """So many bad connections of gRPC, and as many bad requests of JSON, beside a good client."""
    good = GoodClient(node)
    good.put()
    before = node.peak_bytes()

    @settings(max_examples=examples, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(abuses())
    def by_grpc(abuse: Abuse) -> None:
        # Without HTTP/2's preface the node takes it for HTTP/1.1, and answers in that.
        exchange(node.port, abuse.pieces, PATIENCE_S, reads=abuse.reads)
        good.put()

    with httpx.Client(base_url=node.url, timeout=PATIENCE_S) as client:
        for seed in range(examples):
            path, content = body(Random(seed))
            answer = client.post(path, content=content)
            assert answer.status_code < 500, (path, content, answer.text)
    good.put()
    by_grpc()
    assert node.peak_bytes() - before < MAX_GROWTH_BYTES
    good.close()


def test_bad_requests(node: ApiServer) -> None:
    """100 of each transport."""
    endure(node, 100)


@pytest.mark.long
def test_many_bad_requests(node: ApiServer) -> None:
    """10,000 of each transport."""
    endure(node, 10_000)


@contextmanager
def attacking(name: str, port: int) -> Iterator[None]:
    """A process that attacks; it yields the processor to the node, since it stands for another machine."""
    command = ["nice", "-n", "10", sys.executable, "-m", "tests.etcd.attackers", name, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline()
        try:
            yield
            assert attacker.poll() is None
        finally:
            attacker.kill()


def latencies(good: GoodClient) -> list[float]:
    over_at = time.perf_counter() + ROUND_S
    taken = []
    while time.perf_counter() < over_at:
        taken.append(good.put())
    return taken


@pytest.mark.timing
@pytest.mark.parametrize("attack", ATTACKS)
def test_good_clients_hardly_wait(node: ApiServer, attack: str) -> None:
    """The median of a put is less than doubled by an attack, in rounds with and without it in turns."""
    good = GoodClient(node)
    without, during = list[float](), list[float]()
    for _ in range(ROUNDS):
        without += latencies(good)
        with attacking(attack, node.port):
            during += latencies(good)
    good.close()
    print(f"{attack}: {1000 * median(without):.2f} -> {1000 * median(during):.2f} ms")
    assert median(during) < 2 * median(without)


def test_unary_refusals_have_codes(node: ApiServer) -> None:
    """What is no message, and what is no method, have the codes of gRPC."""
    with node.channel() as channel:
        for path, content, code in (
            ("/etcdserverpb.KV/Put", b"\xff\xff", grpc.StatusCode.INTERNAL),
            ("/etcdserverpb.KV/None", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/etcdserverpb.Watch/None", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/etcdserverpb.KV/Put", b"", grpc.StatusCode.INVALID_ARGUMENT),
        ):
            call = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as refused:
                call(content, timeout=PATIENCE_S)
            assert refused.value.code() == code
