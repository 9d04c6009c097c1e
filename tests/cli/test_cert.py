"""`cert`: certificates that OpenSSL and Python's ssl module accept for what they are, and nothing else."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from raftkv_trio.certificates.names import node_uri
from tests.cli.certificates import CLUSTER_ID, URLS, cert, loaded
from tests.cli.program import run
from tests.tls.certificates import Pair
from tests.tls.handshakes import client_context, handshake, peer_certificate, peer_names, server_context

# ---------------------------------------------------------------- what is made


def test_the_files(certs: Path) -> None:
    """Keys are for this user only, certificates for everybody, and nothing else is left."""
    modes = {file.name: file.stat().st_mode & 0o777 for file in certs.iterdir()}
    names = ("ca", "node-1", "node-2", "client-root")
    assert modes == {f"{name}.crt": 0o644 for name in names} | {f"{name}.key": 0o600 for name in names}
    assert certs.stat().st_mode & 0o022 == 0


def test_what_the_commands_say(tmp_path: Path) -> None:
    """The files, what they are for, and until when."""
    ends = [datetime.now(UTC) + timedelta(days=days) for days in (3650, 365, 365)]
    said = [
        cert(tmp_path, "init", "--cluster-id", "AB12"),
        cert(tmp_path, "node", "7", "localhost"),
        cert(tmp_path, "client", "a.b@c"),
    ]
    made = (
        ("ca", "CA of cluster ab12"),
        ("node-7", "node 7 of cluster ab12"),
        ("client-a.b@c", "client a.b@c"),
    )
    for line, (name, what), end in zip(said, made, ends, strict=True):
        expected = f"certs/{name}.crt, certs/{name}.key: {what}, valid until "
        assert line.startswith(expected)
        until = datetime.fromisoformat(line.removeprefix(expected).strip()).replace(tzinfo=UTC)
        assert abs(until - end) <= timedelta(days=1)  # midnight may pass meanwhile


def test_the_names(certs: Path) -> None:
    """A node's certificate has the URI of the node, and each host once, as clients compare them."""
    names = loaded(certs / "node-1.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name.value) for name in names.value] == [
        f"raftkv://{CLUSTER_ID:x}/1",
        "raftkv1.example",
        "xn--bcher-kva.example",
        "10.0.0.1",
        "::1",
    ]


@pytest.mark.parametrize(
    ("options", "cluster_id"),
    [
        (("--cluster", URLS.replace("http", "tcp")), CLUSTER_ID),
        (("--cluster", URLS, "--cluster-token", "a"), cluster_id_of(parse_cluster(URLS), "a")),
        (("--cluster-id", f"{CLUSTER_ID:x}"), CLUSTER_ID),
        ((), cluster_id_of(parse_cluster("http://127.0.0.1:9021"), "")),
    ],
)
def test_the_cluster(tmp_path: Path, options: tuple[str, ...], cluster_id: int) -> None:
    """It is the one that `serve` makes of the same flags, or the one that is named by its id."""
    assert f"CA of cluster {cluster_id:x}, " in cert(tmp_path, "init", *options)
    assert f"node 1 of cluster {cluster_id:x}, " in cert(tmp_path, "node", "1", "a")


def test_a_cluster_of_another_id(tmp_path: Path) -> None:
    """A cluster that was restored has a new id: the CA may stay, and its nodes get new certificates."""
    cert(tmp_path, "init")
    assert "node 1 of cluster 1f, " in cert(tmp_path, "node", "1", "a", "--cluster-id", "1f")


def test_the_variables_of_serve(tmp_path: Path) -> None:
    """`init` reads those that say which cluster it is; a flag wins."""
    environment = {"RAFTKV_TRIO_CLUSTER": URLS, "RAFTKV_TRIO_CLUSTER_TOKEN": "a"}
    environment |= {f"RAFTKV_TRIO_{name}": "1" for name in ("DIR", "DIRECTORY", "CLUSTER_ID", "FORCE")}
    cluster_id = cluster_id_of(parse_cluster(URLS), "a")
    for options, made in ((), cluster_id), (("--cluster-id", "1f", "--force"), 0x1F):
        done = run("cert", "init", *options, directory=tmp_path, environment=environment)
        assert f"CA of cluster {made:x}, " in done.stdout


@pytest.mark.parametrize(
    ("name", "purposes"),
    [
        ("node-1", ["sslserver", "sslclient", "any"]),
        ("client-root", ["sslclient", "any"]),
        ("ca", ["any"]),
    ],
)
def test_openssl_accepts_them(certs: Path, name: str, purposes: list[str]) -> None:
    """Its strict check finds nothing wrong, and a client's certificate is no server's."""

    def is_accepted(purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
        files = ["-CAfile", str(certs / "ca.crt"), str(certs / f"{name}.crt")]
        return subprocess.run([*command, *files], capture_output=True).returncode == 0

    assert [purpose for purpose in ("sslserver", "sslclient", "any") if is_accepted(purpose)] == purposes


@pytest.mark.parametrize("name", ["node-1", "client-root"])
@pytest.mark.parametrize(("hours", "is_accepted"), [(-2, True), (-1, True), (1, True), (-48, False)])
def test_other_clocks(certs: Path, name: str, hours: int, is_accepted: bool) -> None:
    """What was just made is accepted where the clock is two hours behind, or one ahead, not at any time."""
    now = datetime.now(UTC) + timedelta(hours=hours)
    command = ["openssl", "verify", "-attime", str(int(now.timestamp()))]
    files = ["-CAfile", str(certs / "ca.crt"), str(certs / f"{name}.crt")]
    assert (subprocess.run([*command, *files], capture_output=True).returncode == 0) is is_accepted


# ---------------------------------------------------------------- handshakes


@pytest.mark.parametrize("host", ["raftkv1.example", "xn--bcher-kva.example", "10.0.0.1", "::1"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_node_and_a_client(certs: Path, host: str, version: ssl.TLSVersion) -> None:
    """Both accept each other, strictly, under each host of the node; the server sees the client's name."""
    client = client_context(certs / "ca.crt", Pair.at(certs / "client-root"))
    client.maximum_version = version
    server, seen = handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "node-1")), host)
    assert server.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert peer_certificate(server)["subject"] == ((("commonName", "root"),),)
    assert ("URI", node_uri(CLUSTER_ID, 1)) in peer_names(seen)


def test_two_nodes(certs: Path) -> None:
    """A node is a client of others with the same certificate, and each sees which node the other is."""
    client = client_context(certs / "ca.crt", Pair.at(certs / "node-2"))
    at_server, at_client = handshake(
        client, server_context(certs / "ca.crt", Pair.at(certs / "node-1")), "10.0.0.1"
    )
    for end, node_id in (at_server, 2), (at_client, 1):
        assert ("URI", node_uri(CLUSTER_ID, node_id)) in peer_names(end)


@pytest.mark.parametrize("host", ["10.0.0.2", "localhost", "other.example"])
def test_another_host(certs: Path, host: str) -> None:
    """A node is not accepted under a name that its certificate does not have."""
    client = client_context(certs / "ca.crt", Pair.at(certs / "client-root"))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "node-1")), host)


def test_a_client_is_no_server(certs: Path) -> None:
    """Whoever has a client's certificate cannot answer in the place of a node."""
    client = client_context(certs / "ca.crt", Pair.at(certs / "node-1"))
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "client-root")), "10.0.0.1")


def test_another_ca(certs: Path, tmp_path: Path) -> None:
    """A CA of the same cluster, made a second time, is another one."""
    cert(tmp_path, "init", "--cluster", URLS)
    client = client_context(tmp_path / "certs" / "ca.crt", Pair.at(certs / "client-root"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "node-1")), "10.0.0.1")
