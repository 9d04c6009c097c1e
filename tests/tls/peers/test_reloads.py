"""Members take new certificates, CAs and CRLs while they run, and speak anew with these."""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import PeerTls
from tests.cli.program import run
from tests.peers.handmade import CLUSTER_ID
from tests.peers.members import connected, in_trouble, until
from tests.tls.certificates import Authority
from tests.tls.configs import peer_tls, replace_file, replace_pair
from tests.tls.members import member, words_in


async def test_new_certificates_end_what_was_made_with_old_ones(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All connections are made anew, and the log says why. A member that was revoked does not come back."""
    crl, empty = tmp_path / "node-1.crl", ca.crl()
    replace_file(crl, empty)
    pair = ca.node(2)
    async with (
        member(1, addresses, tmp_path, peer_tls(ca, ca.node(1), peer_crl_file=crl)) as (one, network),
        member(2, addresses, tmp_path, peer_tls(ca, pair)) as (two, _),
    ):
        assert network is not None
        await connected(one, 2)
        await connected(two, 1)
        replace_file(crl, ca.revoke(ca.node(7)))
        await network.credentials.take_changed()
        assert network.credentials.reloads == 1
        await until(lambda: len(one.events.lost_peers) == len(two.events.lost_peers) == 1)
        why = "this node has new certificates, and makes its connections anew"
        assert words_in(caplog, f"node 2 at {addresses[2].url}: {why}")
        assert words_in(caplog, f"node 1 at {addresses[1].url}: the peer closed the connection")
        assert not words_in(caplog, f"node 2 at {addresses[2].url}: the peer closed")
        await connected(one, 2)
        await connected(two, 1)
        replace_file(crl, ca.revoke(pair))
        await network.credentials.take_changed()
        await in_trouble(one, 2, "the other end's certificate is refused: certificate revoked")
        await in_trouble(two, 1, "the other end refused TLS: this end's certificate was revoked")


async def test_a_node_that_the_command_revokes(addresses: dict[int, PeerAddress], tmp_path: Path) -> None:
    """With certificates and CRL of the `cert` commands: let in, and after a reload refused."""

    async def cert(*arguments: str) -> None:
        done = await trio.to_thread.run_sync(partial(run, "cert", *arguments, directory=tmp_path))
        assert done.returncode == 0, done

    await cert("init", "--cluster-id", f"{CLUSTER_ID:x}")
    for node_id in ("1", "2"):
        await cert("node", node_id, "127.0.0.1")
    await cert("revoke")
    certs = tmp_path / "certs"

    def tls_of(node_id: int) -> PeerTls:
        return PeerTls(
            peer_cert_file=certs / f"node-{node_id}.crt",
            peer_key_file=certs / f"node-{node_id}.key",
            peer_trusted_ca_file=certs / "ca.crt",
            peer_crl_file=certs / "ca.crl" if node_id == 1 else None,
        )

    async with (
        member(1, addresses, tmp_path, tls_of(1)) as (one, network),
        member(2, addresses, tmp_path, tls_of(2)) as (two, _),
    ):
        assert network is not None
        await connected(one, 2)
        await connected(two, 1)
        await cert("revoke", "node-2")
        network.credentials.reload()
        await in_trouble(one, 2, "the other end's certificate is refused: certificate revoked")
        await in_trouble(two, 1, "the other end refused TLS: this end's certificate was revoked")


async def test_what_does_not_work_leaves_the_old_in_use(
    ca: Authority,
    other_ca: Authority,
    addresses: dict[int, PeerAddress],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The key before its certificate, a file that is away, a certificate of another CA: one line each."""
    pair, new = ca.node(1), ca.node(1)
    async with (
        member(1, addresses, tmp_path, peer_tls(ca, pair)) as (one, network),
        member(2, addresses, tmp_path, peer_tls(ca, ca.node(2))) as (two, _),
    ):
        assert network is not None
        await connected(one, 2)
        before = network.credentials.contexts

        async def take(failures: int, words: str) -> None:
            for _ in range(2):  # the second look says nothing new
                await network.credentials.take_changed()
            assert network.credentials.failed_reloads == 2 * failures
            assert network.credentials.contexts is before
            said = [message for message in caplog.messages if "stay in use" in message]
            assert len(said) == failures
            assert words in said[-1]

        replace_file(pair.key, new.key)
        await take(1, "is not the key of the certificate")
        pair.certificate.unlink()
        await take(2, "No such file or directory")
        replace_pair(pair, other_ca.node(1))
        await take(3, "is no certificate that others accept")
        replace_pair(pair, ca.node(1, begins=timedelta(days=-2), ends=timedelta(days=-1)))
        await take(4, "has expired")
        assert one.events.lost_peers == two.events.lost_peers == []
        replace_pair(pair, new)
        await network.credentials.take_changed()
        assert network.credentials.contexts is not before
        await until(lambda: one.events.lost_peers)
        await connected(one, 2)
        await connected(two, 1)


async def test_a_link_outlives_a_certificate(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """What is up stays up. Who connects anew is refused, and both sides say why."""
    ends = timedelta(seconds=8)
    async with (
        member(1, addresses, tmp_path, peer_tls(ca, ca.node(1))) as (one, _),
        member(2, addresses, tmp_path, peer_tls(ca, ca.node(2, ends=ends))) as (two, _),
    ):
        await connected(one, 2)
        await connected(two, 1)
        await trio.sleep(9)  # time itself is what this is about
        one.peers.offer(2, [one.heartbeat(2)])
        two.peers.offer(1, [two.heartbeat(1)])
        await one.received(1)
        await two.received(1)
        one.peers.outgoing[2].redial(addresses[2])
        await in_trouble(one, 2, "certificate has expired")
        two.peers.outgoing[1].redial(addresses[1])
        await in_trouble(two, 1, "this end's certificate has expired, by its clock")


async def test_two_cas_while_one_replaces_the_other(
    ca: Authority, other_ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """Both are trusted, then certificates are replaced, then the old CA goes; the members meet each time."""
    both = tmp_path / "both.crt"
    trusted = {i: tmp_path / f"trusted-{i}.crt" for i in (1, 2)}
    pairs = {i: ca.node(i) for i in (1, 2)}
    for file in trusted.values():
        replace_file(file, ca.certificate)
    both.write_bytes(ca.certificate.read_bytes() + other_ca.certificate.read_bytes())
    tls = {i: peer_tls(ca, pairs[i], peer_trusted_ca_file=trusted[i]) for i in (1, 2)}
    async with (
        member(1, addresses, tmp_path, tls[1]) as (one, first),
        member(2, addresses, tmp_path, tls[2]) as (two, second),
    ):
        networks = {1: first, 2: second}

        async def take(node_id: int) -> None:
            network = networks[node_id]
            assert network is not None
            before = network.credentials.reloads
            await network.credentials.take_changed()
            assert network.credentials.reloads == before + 1
            await until(lambda: one.events.lost_peers and two.events.lost_peers)
            one.events.lost_peers.clear()
            two.events.lost_peers.clear()
            await connected(one, 2)
            await connected(two, 1)

        await connected(one, 2)
        await connected(two, 1)
        for node_id in (1, 2):
            replace_file(trusted[node_id], both)
            await take(node_id)
        for node_id in (1, 2):
            replace_pair(pairs[node_id], other_ca.node(node_id))
            await take(node_id)
        for node_id in (1, 2):
            replace_file(trusted[node_id], other_ca.certificate)
            await take(node_id)
