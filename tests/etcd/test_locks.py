"""The Lock and the Election service: the same on etcd and on a node, apart from what etcd does wrong."""

import base64
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message

from raftkv_trio.schema import rpc_pb2 as rpc
from raftkv_trio.schema import v3election_pb2 as election
from raftkv_trio.schema import v3lock_pb2 as lock
from tests.etcd.servers import PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.test_cluster import started

Open = Callable[[Path], AbstractContextManager[ApiServer]]
UNKNOWN = grpc.StatusCode.UNKNOWN
NO_LEASE = UNKNOWN, "etcdserver: requested lease not found"
NOT_LEADER = UNKNOWN, "election: not leader"
SERVERS = [pytest.param(open_etcd, marks=needs_etcd, id="etcd"), pytest.param(open_node, id="raftkv-trio")]


class Server:
    """Calls of a server's services; `refused` gives the code and text of one that fails."""

    def __init__(self, api: ApiServer) -> None:
        self.name = api.name
        self.url = api.url
        self.channel = api.channel()

    def begin(self, path: str, request: Message, response: type[Message], timeout: float = PATIENCE_S) -> Any:
        call = self.channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call.future(request, timeout=timeout)

    def lock(self, name: bytes, lease: int = 0, **options: float) -> Any:
        request = lock.LockRequest(name=name, lease=lease)
        return self.begin("/v3lockpb.Lock/Lock", request, lock.LockResponse, **options)

    def unlock(self, key: bytes) -> Any:
        return self.begin("/v3lockpb.Lock/Unlock", lock.UnlockRequest(key=key), lock.UnlockResponse)

    def campaign(self, lease: int, value: bytes, **options: float) -> Any:
        request = election.CampaignRequest(name=b"vote", lease=lease, value=value)
        return self.begin("/v3electionpb.Election/Campaign", request, election.CampaignResponse, **options)

    def leader(self) -> Any:
        request = election.LeaderRequest(name=b"vote")
        return self.begin("/v3electionpb.Election/Leader", request, election.LeaderResponse)

    def proclaim(self, value: bytes, *leader: Any) -> Any:
        request = election.ProclaimRequest(leader=_leader_key(*leader), value=value)
        return self.begin("/v3electionpb.Election/Proclaim", request, election.ProclaimResponse)

    def resign(self, *leader: Any) -> Any:
        request = election.ResignRequest(leader=_leader_key(*leader))
        return self.begin("/v3electionpb.Election/Resign", request, election.ResignResponse)

    def observe(self) -> Any:
        call = self.channel.unary_stream(
            "/v3electionpb.Election/Observe",
            request_serializer=election.LeaderRequest.SerializeToString,
            response_deserializer=election.LeaderResponse.FromString,
        )
        return call(election.LeaderRequest(name=b"vote"), timeout=PATIENCE_S)

    def grant(self, *leases: int) -> None:
        for lease in leases:
            request = rpc.LeaseGrantRequest(ID=lease, TTL=600)
            self.begin("/etcdserverpb.Lease/LeaseGrant", request, rpc.LeaseGrantResponse).result()

    def revoke(self, lease: int) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease)
        self.begin("/etcdserverpb.Lease/LeaseRevoke", request, rpc.LeaseRevokeResponse).result()

    def keys(self, prefix: bytes) -> list[tuple[bytes, bytes, int]]:
        """The keys under a prefix, with their values and leases."""
        request = rpc.RangeRequest(key=prefix, range_end=prefix + b"\xff")
        response = self.begin("/etcdserverpb.KV/Range", request, rpc.RangeResponse).result()
        return [(kv.key, kv.value, kv.lease) for kv in response.kvs]

    def wait_keys(self, prefix: bytes, count: int) -> None:
        """Return when so many keys are under a prefix."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.keys(prefix)) != count:
            assert time.monotonic() < deadline, self.keys(prefix)
            time.sleep(0.01)


def _leader_key(key: bytes = b"", rev: int = 0, lease: int = 0) -> election.LeaderKey | None:
    return election.LeaderKey(name=b"vote", key=key, rev=rev, lease=lease) if key else None


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failed:
        call.result()
    error: Any = failed.value
    return error.code(), error.details()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with the leases 10, 11 and 12."""
    opened: Open = request.param
    with opened(tmp_path) as api:
        server = Server(api)
        server.grant(10, 11, 12)
        yield server
        server.channel.close()


def test_a_lock(server: Server) -> None:
    """It has one holder; the others wait, in the order in which they came, until it is unlocked."""
    first = server.lock(b"door", 10).result()
    assert (first.key, first.header.revision) == (b"door/a", 2)
    again = server.lock(b"door", 10).result()
    assert (again.key, again.header.revision) == (b"door/a", 2)
    assert server.keys(b"door/") == [(b"door/a", b"", 10)]

    second = server.lock(b"door", 12)
    server.wait_keys(b"door/", 2)
    third = server.lock(b"door", 11)
    server.wait_keys(b"door/", 3)
    assert not second.done()
    assert server.unlock(b"door/a").result().header.revision == 5
    assert second.result().key == b"door/c"
    assert not third.done()
    server.revoke(12)  # a holder whose lease ends holds it no more
    assert third.result().key == b"door/b"
    assert server.unlock(b"door/b").result().header.revision == 7
    assert server.unlock(b"door/b").result().header.revision == 7  # nothing is there, which is no error
    assert server.keys(b"door/") == []


def test_locks_that_are_refused(server: Server) -> None:
    """The codes are those that etcd's own client makes of its errors: none but UNKNOWN."""
    assert refused(server.lock(b"door", 999)) == NO_LEASE
    assert refused(server.lock(b"door", -5)) == NO_LEASE
    assert refused(server.unlock(b"")) == (UNKNOWN, "etcdserver: key is not provided")


def test_who_gives_up_leaves_the_queue(server: Server) -> None:
    """By a deadline, or by a call that is cancelled; the lock and the leadership go to those behind."""
    server.lock(b"door", 10).result()
    code, text = refused(server.lock(b"door", 11, timeout=0.5))
    if code is not grpc.StatusCode.DEADLINE_EXCEEDED:  # etcd may see the deadline before the client does
        assert (server.name, code, text) == ("etcd", UNKNOWN, "context deadline exceeded")
    server.wait_keys(b"door/", 1)
    waiting = server.lock(b"door", 11)
    server.wait_keys(b"door/", 2)
    behind = server.lock(b"door", 12)
    server.wait_keys(b"door/", 3)
    waiting.cancel()
    server.wait_keys(b"door/", 2)
    server.unlock(b"door/a").result()
    assert behind.result().key == b"door/c"

    server.campaign(10, b"x").result()
    waiting = server.campaign(11, b"y")
    server.wait_keys(b"vote/", 2)
    waiting.cancel()
    server.wait_keys(b"vote/", 1)


def test_a_session_that_ends_while_it_waits(server: Server) -> None:
    """It is told so. Etcd 3.4 says that it holds the lock, though its key is gone."""
    server.lock(b"door", 10).result()
    waiting = server.lock(b"door", 11)
    server.wait_keys(b"door/", 2)
    server.revoke(11)
    if server.name == "etcd":
        assert not waiting.done()
        server.unlock(b"door/a").result()
        assert waiting.result().key == b"door/b"
        assert server.keys(b"door/") == []
    else:
        assert refused(waiting) == (UNKNOWN, "mutex: session is expired")


def test_a_lock_without_a_lease(server: Server) -> None:
    """It has a lease of its own, which nobody keeps alive."""
    key = server.lock(b"door").result().key
    [(kept, value, lease)] = server.keys(b"door/")
    assert (kept, value) == (key, b"")
    assert key == b"door/%x" % lease
    request = rpc.LeaseTimeToLiveRequest(ID=lease)
    path = "/etcdserverpb.Lease/LeaseTimeToLive"
    assert server.begin(path, request, rpc.LeaseTimeToLiveResponse).result().grantedTTL == 60


def test_an_election(server: Server) -> None:
    """One leads, others wait; what the leader proclaims is seen, and who is no leader proclaims nothing."""
    assert refused(server.leader()) == (UNKNOWN, "election: no leader")
    assert refused(server.campaign(999, b"v")) == NO_LEASE
    led = server.campaign(10, b"first").result()
    assert (led.header.revision, led.leader) == (2, _leader_key(b"vote/a", 2, 10))
    led = server.campaign(10, b"other").result()  # puts the new value
    assert (led.header.revision, led.leader) == (2, _leader_key(b"vote/a", 2, 10))
    assert server.keys(b"vote/") == [(b"vote/a", b"other", 10)]
    leader = server.leader().result()
    assert (leader.header.revision, leader.kv.value, leader.kv.mod_revision) == (3, b"other", 3)

    assert refused(server.proclaim(b"x", b"vote/a", 99, 10)) == NOT_LEADER
    assert refused(server.proclaim(b"x", b"vote/a", 2, 77)) == NO_LEASE
    missing = (UNKNOWN, '"leader" field must be provided')
    assert refused(server.proclaim(b"x")) == refused(server.resign()) == missing
    assert server.proclaim(b"new", b"vote/a", 2, 10).result().header.revision == 4

    waiting = server.campaign(11, b"next")
    server.wait_keys(b"vote/", 2)
    assert server.resign(b"vote/a", 99).result().header.revision == 5  # it does not lead, and that is all
    assert not waiting.done()
    assert server.resign(b"vote/a", 2).result().header.revision == 6
    assert waiting.result().leader == _leader_key(b"vote/b", 5, 11)
    assert server.resign(b"vote/a", 2).result().header.revision == 6
    assert server.leader().result().kv.value == b"next"


def test_who_observes_an_election(server: Server) -> None:
    """Sees each leader and each value, from the present leader on."""
    seen: list[tuple[int, bytes, bytes, int]] = []
    ended: list[Any] = []
    stream = server.observe()

    def observe() -> None:
        try:
            for response in stream:
                kv = response.kv
                seen.append((response.header.revision, kv.key, kv.value, kv.mod_revision))
        except grpc.RpcError as error:
            ended.append(error)

    def wait_seen(count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) < count:
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)

    observing = Thread(target=observe)
    observing.start()
    server.campaign(10, b"first").result()
    wait_seen(1)
    server.proclaim(b"second", b"vote/a", 2, 10).result()
    server.proclaim(b"third", b"vote/a", 2, 10).result()
    wait_seen(3)
    waiting = server.campaign(11, b"next")
    server.wait_keys(b"vote/", 2)
    server.revoke(10)
    waiting.result()
    wait_seen(4)
    server.resign(b"vote/b", 5).result()
    server.campaign(12, b"last").result()
    wait_seen(5)
    stream.cancel()
    observing.join()
    assert [error.code() for error in ended] == [grpc.StatusCode.CANCELLED]
    assert seen == [
        (2, b"vote/a", b"first", 2),
        (3, b"vote/a", b"second", 3),
        (4, b"vote/a", b"third", 4),
        (6, b"vote/b", b"next", 5),
        (8, b"vote/c", b"last", 8),
    ]


def test_who_observes_sees_a_leader_that_came_before_the_last_value(server: Server) -> None:
    """What the leader before has proclaimed is newer than the key of the one that leads now."""
    stream = server.observe()
    server.campaign(10, b"first").result()
    assert next(stream).kv.value == b"first"
    waiting = server.campaign(11, b"next")
    server.wait_keys(b"vote/", 2)
    server.proclaim(b"second", b"vote/a", 2, 10).result()
    assert next(stream).kv.value == b"second"
    server.resign(b"vote/a", 2).result()
    waiting.result()
    assert next(stream).kv.value == b"next"
    server.proclaim(b"third", b"vote/b", 3, 11).result()
    assert next(stream).kv.value == b"third"
    stream.cancel()


def test_over_json(server: Server) -> None:
    """All calls have routes; a wait is a response that comes late, and the observer's a line each."""

    def text(value: bytes) -> str:
        return base64.b64encode(value).decode()

    name = {"name": text(b"vote")}
    with httpx.Client(base_url=f"{server.url}/v3/", timeout=PATIENCE_S) as client:
        locked = client.post("lock/lock", json={"name": text(b"door"), "lease": "10"}).json()
        assert locked["key"] == text(b"door/a")
        waiting = server.lock(b"door", 11)
        server.wait_keys(b"door/", 2)
        assert client.post("lock/unlock", json={"key": locked["key"]}).status_code == 200
        assert waiting.result().key == b"door/b"
        refused = client.post("lock/unlock", json={})
        assert (refused.status_code, refused.json()["code"]) == (500, 2)

        campaign = client.post("election/campaign", json={**name, "lease": 10, "value": text(b"one")}).json()
        leader = campaign["leader"]
        assert leader == {"name": text(b"vote"), "key": text(b"vote/a"), "rev": leader["rev"], "lease": "10"}
        with client.stream("POST", "election/observe", json=name) as observed:
            lines = observed.iter_lines()
            assert text(b"one") in next(lines)
            client.post("election/proclaim", json={"leader": leader, "value": text(b"two")})
            assert text(b"two") in next(lines)
        assert client.post("election/leader", json=name).json()["kv"]["value"] == text(b"two")
        assert client.post("election/resign", json={"leader": leader}).status_code == 200
        none = client.post("election/leader", json=name)
        assert (none.status_code, none.json()["message"]) == (500, "election: no leader")


def test_a_wait_outlives_the_leader_of_the_cluster(tmp_path: Path) -> None:
    """Who waits at another member gets the lock; who waited at the killed one is told to go elsewhere."""
    with started(tmp_path) as nodes:
        leader = nodes.leader()
        killed, holder, waiter = [
            Server(nodes.servers[node_id]) for node_id in (leader, leader % 3 + 1, (leader + 1) % 3 + 1)
        ]
        killed.grant(10, 11, 12)
        holder.lock(b"door", 10).result()
        lost = killed.lock(b"door", 12)
        holder.wait_keys(b"door/", 2)
        waiting = waiter.lock(b"door", 11)
        holder.wait_keys(b"door/", 3)
        nodes.processes[leader].send_signal(signal.SIGKILL)
        assert refused(lost)[0] is grpc.StatusCode.UNAVAILABLE
        holder.revoke(12)  # it has no client any more
        assert not waiting.done()
        holder.unlock(b"door/a").result()
        assert waiting.result().key == b"door/b"


def test_a_wait_ends_when_its_node_stops(tmp_path: Path) -> None:
    """The client is told to go elsewhere, and the node stops as it would without it."""
    with open_node(tmp_path) as api:
        server = Server(api)
        server.grant(10, 11)
        server.lock(b"door", 10).result()
        server.campaign(10, b"x").result()
        waits = [server.lock(b"door", 11), server.campaign(11, b"y")]
        server.wait_keys(b"door/", 2)
        server.wait_keys(b"vote/", 2)
        observed = server.observe()
        assert next(observed).kv.value == b"x"
    for wait in waits:
        assert refused(wait)[0] is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError):
        next(observed)
    said = api.log.read_text()
    assert "Traceback" not in said
    assert "bug" not in said
