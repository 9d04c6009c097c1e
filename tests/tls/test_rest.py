"""Clients are served over TLS, and nobody otherwise; new certificates are taken without a failed request."""

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
import trio
from hypercorn.typing import ASGIFramework
from quart import request
from quart_trio import QuartTrio

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.client.rest import NoAnswer, RequestRefused, open_rest_client
from raftkv_trio.config import ClientTls, NodeConfig, RestConfig, ServerConfig
from raftkv_trio.server import serve
from raftkv_trio.sync import Wakeup
from raftkv_trio.tls.clients import Trust
from raftkv_trio.tls.contexts import Files
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.stream import TlsStream, Turns
from tests.conftest import find_free_ports
from tests.http.services import ScriptedService, open_service
from tests.tls.certificates import DAY, Authority
from tests.tls.configs import client_tls, replace_pair, trust

PATIENCE_S = 60.0


class Secured:
    """A node that serves clients over TLS.

    Attributes:
        hangups: as SIGHUP does.
    """

    def __init__(self, port: int, authority: Authority, hangups: Wakeup) -> None:
        self.port = port
        self.authority = authority
        self.hangups = hangups
        self.address = ClientAddress("127.0.0.1", port, is_tls=True)

    @asynccontextmanager
    async def client(self, client_trust: Trust | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client that keeps its connection."""
        context = (client_trust or trust(self.authority)).context()
        async with httpx.AsyncClient(base_url=self.address.url, verify=context, timeout=PATIENCE_S) as client:
            yield client


@asynccontextmanager
async def serving(
    ca: Authority, directory: Path, tls: ClientTls, rest: RestConfig | None = None
) -> AsyncIterator[Secured]:
    (peer_port,) = find_free_ports(1)
    config = ServerConfig(
        node=NodeConfig(
            node_id=1,
            members={1: PeerAddress("127.0.0.1", peer_port)},
            data_dir=directory / "data",
            segment_bytes=1024 * 1024,
        ),
        rest=rest or RestConfig(port=0),
        tls=tls,
    )
    hangups = Wakeup()

    async def run(*, task_status: trio.TaskStatus[int]) -> None:
        await serve(config, hangups=hangups, task_status=task_status)

    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            yield Secured(await nursery.start(run), ca, hangups)
            nursery.cancel_scope.cancel()


async def curl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "--max-time", "60", *map(str, arguments)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


async def test_curl(ca: Authority, tmp_path: Path) -> None:
    """It trusts the CA that it is told, and no server otherwise; large values arrive whole."""
    value = tmp_path / "value"
    value.write_bytes(bytes(range(256)) * 6000)
    async with serving(ca, tmp_path, client_tls(ca.node(1))) as node:
        cacert, url = ("--cacert", ca.certificate), f"{node.address.url}/key"
        done = await curl(*cacert, url, "-XPUT", "-T", value, "-w", "%{http_code}")
        assert done.stdout == "204", done
        got = tmp_path / "got"
        assert (await curl(*cacert, url, "-o", got)).returncode == 0
        assert got.read_bytes() == value.read_bytes()
        assert (await curl(*cacert, f"{node.address.url}/-/healthy")).returncode == 0
        assert (await curl(url)).returncode == 60  # its certificate is not trusted
        refused = await curl(f"http://127.0.0.1:{node.port}/key", "-w", " %{http_code}")
        assert refused.stdout == (
            "This port speaks TLS, and the request came without; ask for https://\n 400"
        )


@pytest.mark.parametrize(("lowest", "spoken"), [("1.2", {"-tls1_2", "-tls1_3"}), ("1.3", {"-tls1_3"})])
async def test_versions_and_ciphers(ca: Authority, tmp_path: Path, lowest: str, spoken: set[str]) -> None:
    """As openssl's client sees them: nothing older, only authenticated encryption with forward secrecy."""
    async with serving(ca, tmp_path, client_tls(ca.node(1), tls_min_version=lowest)) as node:

        async def connect(*arguments: str) -> str:
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile"]
            command += [str(ca.certificate), "-verify_return_error", *arguments]
            done = await trio.run_process(
                command, stdin=b"", capture_stdout=True, capture_stderr=True, check=False
            )
            return done.stdout.decode() if done.returncode == 0 else ""

        versions = ("-tls1", "-tls1_1", "-tls1_2", "-tls1_3")
        low = ("-cipher", "DEFAULT:@SECLEVEL=0")
        said = {version: await connect(version, *low) for version in versions}
        assert {version for version, text in said.items() if "Verification: OK" in text} == spoken
        for version, text in said.items():
            if version in spoken:
                assert "Secure Renegotiation IS NOT" not in text or version == "-tls1_3"
                assert "New Session Ticket arrived" not in text
                assert "TLS session ticket:" not in text
        for weak in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"):
            assert not await connect("-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0")


async def test_only_clients_with_a_certificate(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    """Of the CA, valid now, and not revoked. The others learn why, and probes have a port of their own."""
    (probes,) = find_free_ports(1)
    revoked = ca.client("revoked")
    tls = client_tls(
        ca.node(1),
        client_cert_auth=True,
        trusted_ca_file=ca.certificate,
        client_crl_file=ca.revoke(revoked),
    )
    rest = RestConfig(port=0, listen_metrics=PeerAddress("127.0.0.1", probes))
    async with serving(ca, tmp_path, tls, rest) as node:

        async def ask(who: Trust) -> object:
            async with open_rest_client(PATIENCE_S, who) as client:
                return await client.ask("GET", node.address, "/-/members")

        assert await ask(trust(ca, ca.client()))
        for pair, why in (
            (None, "it wants a certificate of this end"),
            (other_ca.client(), "it does not trust the CA of this end's certificate"),
            (revoked, "this end's certificate was revoked"),
            (ca.client("old", begins=-2 * DAY, ends=-DAY), "this end's certificate has expired"),
        ):
            with pytest.raises(NoAnswer, match=why):
                await ask(trust(ca, pair))
        async with httpx.AsyncClient() as plain:
            assert (await plain.get(f"http://127.0.0.1:{probes}/-/healthy")).status_code == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_app_is_told_the_scheme(ca: Authority, scheme: str) -> None:
    """That of the connection, as Quart hands it on."""
    app = QuartTrio(__name__)

    @app.get("/scheme")
    async def answer() -> str:
        return f"{request.scheme} {request.url}"

    files = Files.of_clients(client_tls(ca.node(1)))
    tls = await Credentials.load(files, "certificates") if scheme == "https" else None
    async with open_service(ScriptedService(app=cast(ASGIFramework, app)), tls=tls) as opened:
        url = f"{scheme}://127.0.0.1:{opened.port}/scheme"
        async with httpx.AsyncClient(verify=trust(ca).context(), timeout=PATIENCE_S) as client:
            assert (await client.get(url)).text == f"{scheme} {url}"


async def test_what_our_client_says(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    """If it does not trust the server, or one of the two speaks no TLS."""
    async with serving(ca, tmp_path, client_tls(ca.issue("far", [], ["far.example"]))) as node:
        plain = ClientAddress("127.0.0.1", node.port)
        async with open_rest_client(PATIENCE_S, trust(ca)) as client:
            with pytest.raises(NoAnswer, match="certificate is refused: IP address mismatch"):
                await client.ask("GET", node.address, "/-/members")
            with pytest.raises(RequestRefused, match="this port speaks TLS"):
                await client.ask("GET", plain, "/-/members")
        async with open_rest_client(PATIENCE_S, trust(other_ca)) as client:
            with pytest.raises(NoAnswer, match="certificate is refused: "):
                await client.ask("GET", node.address, "/-/members")


async def test_a_client_that_says_nothing_is_dropped(ca: Authority, tmp_path: Path) -> None:
    """So is one that stops in the middle of the handshake: it has as long as for a head."""
    rest = RestConfig(port=0, header_timeout_s=0.5, idle_timeout_s=1000)
    async with serving(ca, tmp_path, client_tls(ca.node(1)), rest) as node:
        for begin in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
                if begin:
                    await stream.send_all(begin)
                with trio.fail_after(PATIENCE_S):
                    assert await stream.receive_some() == b""


async def test_a_connection_stays_over_a_reload(ca: Authority, tmp_path: Path) -> None:
    """With its old certificate; a new one shows the new. Links to files are followed."""
    old, new = ca.node(1), ca.node(1)
    link, key = tmp_path / "current.crt", tmp_path / "current.key"
    link.symlink_to(old.certificate)
    key.symlink_to(old.key)
    tls = ClientTls(cert_file=link, key_file=key)
    async with serving(ca, tmp_path, tls) as node, node.client() as client:
        assert (await client.put("/key", content=b"value")).status_code == 204
        for name, target in ((link, new.certificate), (key, new.key)):
            other = tmp_path / "other"
            other.symlink_to(target)
            other.replace(name)
        node.hangups.set()
        shown = None
        while shown != new.parsed.serial_number:
            shown = await serial_number_of(node)
            assert (await client.get("/key")).content == b"value"


async def serial_number_of(node: Secured) -> int:
    """Of the certificate that a new connection is shown."""
    tcp = await trio.open_tcp_stream("127.0.0.1", node.port)
    context = ssl.create_default_context(cafile=node.authority.certificate)
    stream = TlsStream(tcp, context, Turns(), server_side=False, dialled_host="127.0.0.1")
    async with stream:
        await stream.handshake()
        certificate = stream.certificate()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


async def test_no_request_fails_while_certificates_change(ca: Authority, tmp_path: Path) -> None:
    """Under load, with kept and with new connections."""
    pair = ca.node(1)
    done = trio.Event()
    answered = 0

    async def load(node: Secured, keeps: bool) -> None:
        nonlocal answered
        number = 0
        while not done.is_set():
            async with node.client() as client:
                for _ in range(20 if keeps else 1):
                    number += 1
                    assert (await client.put(f"/{keeps}", content=b"%d" % number)).status_code == 204
                    assert (await client.get(f"/{keeps}")).content == b"%d" % number
                    answered += 1

    async with serving(ca, tmp_path, client_tls(pair)) as node, trio.open_nursery() as nursery:
        nursery.start_soon(load, node, True)
        nursery.start_soon(load, node, False)
        for _ in range(5):
            new = ca.node(1)
            replace_pair(pair, new)
            node.hangups.set()
            while await serial_number_of(node) != new.parsed.serial_number:
                node.hangups.set()
            before = answered
            while answered < before + 5:  # noqa: ASYNC110 - it grows with each of many requests
                await trio.sleep(0.01)
        done.set()
