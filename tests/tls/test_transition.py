"""Three real nodes go from plain to TLS and back, by the steps of docs/operating.md, while clients write."""

from collections.abc import Awaitable
from pathlib import Path
from typing import NamedTuple

import httpx
import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.handshake import say_hello
from raftkv_trio.peers.handshake_frames import Hello
from raftkv_trio.peers.proofs import Conversation
from raftkv_trio.testing import Register, check_linearizable
from tests.faults.load import Load
from tests.integration.cluster import PATIENCE_S, Cluster
from tests.integration.members import started
from tests.peers.handmade import NONCE
from tests.tls.processes import HOST, Certificates, client_of

#: A node that leads hands over before it stops: writes wait for that, and never for an election, which would
#: begin after this time without a leader. It is longer than the default, for machines that are slow.
ELECTION_TIMEOUT_S = 5.0
ARGUMENTS = ("--heartbeat-interval", "500", "--election-timeout", str(int(ELECTION_TIMEOUT_S * 1000)))
SEED = 19


class Spoken(NamedTuple):
    """What a port for peers speaks with whoever comes."""

    tls: bool
    plain: bool


PLAIN, BOTH, TLS = Spoken(False, True), Spoken(True, True), Spoken(True, False)


async def spoken(port: int, certificates: Certificates, node_id: int) -> Spoken:
    """What this node's port answers to a handshake of TLS, and to a Hello without TLS."""
    context = certificates.context(node_id)
    with trio.fail_after(PATIENCE_S):
        tls = trio.SSLStream(await trio.open_tcp_stream(HOST, port), context, server_hostname=HOST)
        plain = await trio.open_tcp_stream(HOST, port)
        hello = Hello(
            cluster_id=certificates.cluster_id, sender=node_id % 3 + 1, nonce=NONCE, receiver=node_id
        )
        async with plain:
            is_welcome = await succeeds(say_hello(Conversation(plain, None), hello))
        does_handshake = await succeeds(tls.do_handshake())
        await trio.aclose_forcefully(tls)
    return Spoken(does_handshake, is_welcome)


async def succeeds(attempt: Awaitable[object]) -> bool:
    try:
        await attempt
    except (PeerProtocolError, trio.BrokenResourceError):
        return False
    return True


class Rollout:
    """Restarts the nodes one after the other, as an operator does, with other arguments."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient, certificates: Certificates) -> None:
        self._cluster = cluster
        self._http = http
        self._certificates = certificates
        self.restarts = 0

    async def to(self, members: Spoken, *, clients_use_tls: bool) -> None:
        """Have all nodes speak so with members and clients; each is ready before the next is stopped."""
        cluster, certificates = self._cluster, self._certificates
        for node_id in cluster.ids:
            assert await trio.to_thread.run_sync(cluster.stop, node_id) == 0
            cluster.give(
                node_id,
                *(certificates.of_members(node_id) if members.tls else ()),
                *(["--peer-tls-transition"] if members == BOTH else ()),
                *(certificates.of_clients(node_id) if clients_use_tls else ()),
            )
            cluster.start(node_id)
            await cluster.wait_ready(self._http)
            self.restarts += 1
            assert await spoken(cluster.peer_port(node_id), certificates, node_id) == members


async def test_there_and_back(tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost, and no pause is longer than a leadership transfer may be."""
    with started(tmp_path, 3, founders=3, arguments=ARGUMENTS) as cluster:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as plain:
            await cluster.wait_ready(plain)
            before = await cluster.status(plain, 1)
        certificates = Certificates(tmp_path / "ca", before["cluster_id"])
        certificates.issue(*cluster.ids)
        async with client_of(certificates) as http:
            load = Load(cluster, http, SEED, clients=4, thinking_s=0.05)
            rollout = Rollout(cluster, http, certificates)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await rollout.to(BOTH, clients_use_tls=False)
                await rollout.to(TLS, clients_use_tls=True)
                await rollout.to(BOTH, clients_use_tls=True)
                await rollout.to(PLAIN, clients_use_tls=False)
                nursery.cancel_scope.cancel()
            await load.write_through_all()
            await load.read_all()
            await cluster.wait_equal(http)
            terms = (await cluster.status(http, 1))["term"] - before["term"]
    pause_s = load.longest_without_write_s()
    print(f"{rollout.restarts} restarts, {terms} terms, {pause_s:.2f} s without a write; {load.outcomes()}")
    check_linearizable(load.history, Register())
    assert pause_s < ELECTION_TIMEOUT_S
    assert terms <= rollout.restarts
