"""`cert`: certificates that OpenSSL and Python's ssl module accept for what they are, and nothing else."""

import os
import re
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from raftkv_trio.certificates.authority import Authority, make_authority
from raftkv_trio.certificates.names import node_uri, parse_host
from raftkv_trio.errors import ConfigError
from tests.cli.program import PROGRAM, refusal, run
from tests.tls.certificates import Pair
from tests.tls.handshakes import client_context, handshake, peer_certificate, peer_names, server_context

URLS = "http://10.0.0.1:9021,http://10.0.0.2:9021"
CLUSTER_ID = cluster_id_of(parse_cluster(URLS), "")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ("raftkv1.Example", "b\xfccher.example.", "10.0.0.1", "[::1]", "10.0.0.1")


def cert(directory: Path, *arguments: str) -> str:
    """What a `cert` command prints."""
    done = run("cert", *arguments, directory=directory)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, the certificates of nodes 1 and 2, and that of a client, as the commands make them."""
    directory = tmp_path_factory.mktemp("cert")
    cert(directory, "init", "--cluster", URLS)
    cert(directory, "node", "1", *HOSTS)
    cert(directory, "node", "2", "10.0.0.2")
    cert(directory, "client", "root")
    return directory / "certs"


def loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def pem_of(
    key: PrivateKeyTypes,
    encryption: KeySerializationEncryption = NoEncryption(),  # noqa: B008 - immutable
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


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


# ---------------------------------------------------------------- what is refused


INIT = ("init", "--cluster", URLS)
NO_HOST = (
    "is no host name or IP address that a certificate can have; leave out scheme, port, zone and wildcards"
)
NO_ID = "is not a positive integer below 2**63"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["node", "0", "a"], f"node id '0' {NO_ID}"),
        (["node", "one", "a"], f"node id 'one' {NO_ID}"),
        (["node", str(2**63), "a"], f"node id '{2**63}' {NO_ID}"),
        (["node", "1"], "Missing argument 'HOST...'; see raftkv-trio cert node --help"),
        (["node", "1", "http://a:1"], f"host 'http://a:1' {NO_HOST}"),
        (["node", "1", "ok", "a:1"], f"host 'a:1' {NO_HOST}"),
        (["node", "1", "*.example"], f"host '*.example' {NO_HOST}"),
        (["node", "1", "fe80::1%eth0"], f"host 'fe80::1%eth0' {NO_HOST}"),
        (["node", "1", "127.1"], f"host '127.1' {NO_HOST}"),
        (["node", "1", "[::1"], f"host '[::1' {NO_HOST}"),
        (["node", "1", "a b"], f"host 'a b' {NO_HOST}"),
        (["node", "1", "a..b"], f"host 'a..b' {NO_HOST}"),
        (["node", "1", ""], f"host '' {NO_HOST}"),
        (["node", "1", "a\nb"], f"host 'a\\nb' {NO_HOST}"),
        (["node", "1", "a" * 64], f"host '{'a' * 64}' {NO_HOST}"),
        (
            ["node", "1", "0.0.0.0"],
            "host '0.0.0.0' means all addresses; name those at which the node is reached",
        ),
        (["node", "1", "[::]"], "host '[::]' means all addresses; name those at which the node is reached"),
        (
            ["node", "1", "a", "--cluster-id", "cluster"],
            "--cluster-id 'cluster' is not an id as `raftkv-trio status` shows it",
        ),
        (["init", "--cluster", "a:1"], None),
        ([*INIT, "--cluster-id", "1"], "--cluster and --cluster-id both say which cluster; give one of them"),
        (INIT, "certs/ca.crt exists already; name another file, or set --force to replace it"),
        (
            ["node", "1", "a"],
            "certs/node-1.crt exists already; name another file, or set --force to replace it",
        ),
        ([*INIT, "--dir", "certs/ca.crt"], "--dir certs/ca.crt cannot be made: File exists"),
        ([*INIT, "--dir", "no/certs"], "--dir no/certs cannot be made: No such file or directory"),
        (
            ["node", "1", "a", "--dir", "no"],
            "no/ca.crt does not exist; name the directory of the CA with --dir, or make a CA with"
            " `raftkv-trio cert init`",
        ),
    ],
)
def test_what_is_wrong(certs: Path, arguments: list[str], sentence: str | None) -> None:
    """One sentence says what, with exit code 2; nothing is written or changed."""
    before = {file.name: file.read_bytes() for file in certs.iterdir()}
    said = refusal("cert", *arguments, directory=certs.parent)
    assert sentence in (None, said)
    assert {file.name: file.read_bytes() for file in certs.iterdir()} == before
    assert [path.name for path in certs.parent.iterdir()] == ["certs"]


@pytest.mark.parametrize("name", ["", "a/b", "-", "..", "a b", "a" * 65, "\xfc"])
def test_a_client_name_is_one_of_a_file(certs: Path, name: str) -> None:
    """A path, white space and what would be too long for a certificate are refused."""
    said = refusal("cert", "client", "--", name, directory=certs.parent)
    assert said.startswith(f"client name '{name}' is not 1 to 64 letters, digits and _ . @ -")


Make = Callable[[Path], object]


def make_other_key(certs: Path) -> None:
    (certs / "ca.key").write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1())))


def make_encrypted(certs: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (certs / "ca.key").write_bytes(pem_of(key, BestAvailableEncryption(b"password")))


def make_no_authority(certs: Path) -> None:
    """A leaf and its key, in the place of the CA."""
    for end in ("crt", "key"):
        (certs / f"ca.{end}").write_bytes((certs / f"node-1.{end}").read_bytes())


def make_pipe(certs: Path) -> None:
    (certs / "ca.key").unlink()
    os.mkfifo(certs / "ca.key", 0o600)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda certs: (certs / "ca.crt").unlink(), r"certs/ca\.crt does not exist; name the directory of"),
        (lambda certs: (certs / "ca.key").unlink(), r"certs/ca\.key does not exist; name the directory of"),
        (lambda certs: (certs / "ca.crt").write_text(""), r"certs/ca\.crt has no certificates in PEM: "),
        (
            lambda certs: (certs / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nA\n"),
            "has no certificates",
        ),
        (lambda certs: (certs / "ca.key").write_text("x"), r"certs/ca\.key is no private key in PEM: "),
        (lambda certs: (certs / "ca.key").write_bytes(bytes(2**20 + 1)), "has more than 1048576 bytes"),
        (make_other_key, r"certs/ca\.key is not the key of certs/ca\.crt; find the one that belongs to it$"),
        (make_encrypted, r"certs/ca\.key is encrypted; decrypt it, as with `openssl pkey`$"),
        (make_no_authority, r"certs/ca\.crt is no certificate of a CA$"),
        (make_pipe, r"certs/ca\.key is no regular file$"),
        (
            lambda certs: (certs / "ca.key").write_bytes(pem_of(x25519.X25519PrivateKey.generate())),
            r"certs/ca\.key is neither an EC nor an RSA key$",
        ),
        (
            lambda certs: (certs / "ca.key").chmod(0o604),
            r"certs/ca\.key can be read or changed by other users; run `chmod o= certs/ca\.key`$",
        ),
    ],
)
def test_a_ca_that_cannot_be_used(tmp_path: Path, change: Make, pattern: str) -> None:
    """The sentence names the file, and nothing is written."""
    cert(tmp_path, *INIT)
    cert(tmp_path, "node", "1", "a")
    change(tmp_path / "certs")
    said = refusal("cert", "client", "root", directory=tmp_path)
    assert re.search(pattern, said), said
    assert not list((tmp_path / "certs").glob("client-*"))


def test_force_replaces(tmp_path: Path) -> None:
    """Files of this name only, and what was there until then is whole: the new pair belongs together."""
    cert(tmp_path, *INIT)
    cert(tmp_path, "node", "1", "a")
    directory = tmp_path / "certs"
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    cert(tmp_path, "node", "1", "a", "--force")
    changed = {file.name for file in directory.iterdir() if file.read_bytes() != before[file.name]}
    assert changed == {"node-1.crt", "node-1.key"}
    ssl.create_default_context().load_cert_chain(directory / "node-1.crt", directory / "node-1.key")


@pytest.mark.parametrize("end", ["crt", "key"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_link_is_not_followed(tmp_path: Path, end: str, force: tuple[str, ...]) -> None:
    """A key must not go to where somebody else's link leads, nor half a pair be written."""
    cert(tmp_path, *INIT)
    link = tmp_path / "certs" / f"client-root.{end}"
    link.symlink_to(tmp_path / "elsewhere")
    said = refusal("cert", "client", "root", *force, directory=tmp_path)
    assert said == f"certs/client-root.{end} is not a regular file and is not replaced; name another file"
    assert sorted(path.name for path in tmp_path.glob("**/*")) == sorted(
        ["certs", "ca.crt", "ca.key", link.name]
    )


def test_a_directory_without_room_for_files(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: exit code 1, and no part of a pair is left."""
    cert(tmp_path, *INIT)
    shell = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *PROGRAM, "cert", "client", "root"]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "raftkv-trio: File too large\n"
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == ["ca.crt", "ca.key"]


def test_without_the_package(tmp_path: Path) -> None:
    """Without the extra, one sentence says how to install it; the other commands do not need it."""
    modules, directory = tmp_path / "modules", tmp_path / "empty"
    modules.mkdir()
    directory.mkdir()
    (modules / "cryptography.py").write_text("raise ModuleNotFoundError('no cryptography here')\n")
    environment = {"PYTHONPATH": f"{modules}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for arguments in INIT, ("node", "1", "a"), ("client", "root"), ("local",):
        said = refusal("cert", *arguments, directory=directory, environment=environment)
        assert said == (
            "`raftkv-trio cert` needs the package cryptography (no cryptography here); install it with `pip"
            " install 'raftkv-trio[tls]'`"
        )
    assert list(directory.iterdir()) == []
    done = run("check", "--help", directory=directory, environment=environment)
    assert done.returncode == 0


@given(st.text(max_size=300) | st.from_regex(r"[a-z0-9.:%\[\]*_-]{1,70}", fullmatch=True))
def test_any_host(text: str) -> None:
    """It is refused with a sentence, or a certificate can have it."""
    try:
        host = parse_host(text)
    except ConfigError as error:
        sentence = str(error)
    else:
        name = x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host)
        assert x509.SubjectAlternativeName([name]).public_bytes()
        assert parse_host(str(host)) == host
        return
    assert sentence.startswith("host '")
    assert sentence.isprintable()


# ---------------------------------------------------------------- all at once


def test_a_cluster_on_this_machine(tmp_path: Path) -> None:
    """`cert local` makes everything for the nodes of a Procfile, once; they are reached at its addresses."""
    nodes = "raftkv-trio serve --id %d --cluster https://a.example:1,https://0.0.0.0:2 --cluster-token x\n"
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "P").write_text("".join([f"n{i}: {nodes % i}" for i in (1, 2)]))
    said = cert(tmp_path, "local", "-f", "there/P")
    names = ("ca", "node-1", "node-2", "client-local")
    assert re.findall(r"^there/certs/(.+)\.crt, there/certs/\1\.key: ", said, re.MULTILINE) == list(names)
    certs = tmp_path / "there" / "certs"
    assert {path.name for path in certs.iterdir()} == {
        f"{name}.{end}" for name in names for end in ("crt", "key")
    }
    cluster_id = cluster_id_of(parse_cluster("http://a.example:1,http://0.0.0.0:2"), "x")
    client = client_context(certs / "ca.crt", Pair.at(certs / "client-local"))
    for node_id, hosts in (
        (1, ("a.example", "localhost", "127.0.0.1", "::1")),
        (2, ("localhost", "127.0.0.1")),
    ):
        server = server_context(certs / "ca.crt", Pair.at(certs / f"node-{node_id}"))
        for host in hosts:
            _, seen = handshake(client, server, host)
            assert ("URI", node_uri(cluster_id, node_id)) in peer_names(seen)

    before = {path.name: path.read_bytes() for path in certs.iterdir()}
    (certs / "ca.crt").unlink()
    refused = refusal("cert", "local", "-f", "there/P", directory=tmp_path)
    assert refused == "there/certs/ca.key exists already; name another file, or set --force to replace it"
    assert not (certs / "ca.crt").exists()
    cert(tmp_path, "local", "-f", "there/P", "--force")
    assert not [name for name, content in before.items() if (certs / name).read_bytes() == content]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read Procfile.tls: No such file or directory; name another with --procfile"),
        ("a: sleep 1\n", "the Procfile runs no node; name another with --procfile"),
    ],
)
def test_a_procfile_without_nodes(tmp_path: Path, content: str | None, sentence: str) -> None:
    """Nothing is made."""
    if content is not None:
        (tmp_path / "Procfile.tls").write_text(content)
    assert refusal("cert", "local", directory=tmp_path) == sentence
    assert not (tmp_path / "certs").exists()


# ---------------------------------------------------------------- a CA of another kind


def authority(certificate: bytes, key: bytes) -> Authority:
    return Authority.load(certificate, key, called="ca.crt", key_called="ca.key")


def test_a_leaf_does_not_outlive_its_ca() -> None:
    """Nor does it begin before; and a CA that is not valid now issues nothing."""
    made = make_authority(1, NOW)
    ca = authority(made.certificate, made.key)
    early = ca.issue_to_client("a", NOW)
    assert x509.load_pem_x509_certificate(early.certificate).not_valid_before_utc == NOW - timedelta(days=1)
    assert early.not_after == NOW + timedelta(days=365)
    late = ca.issue_to_client("a", made.not_after - timedelta(seconds=1))
    assert late.not_after == made.not_after
    for now in made.not_after, NOW - timedelta(days=2):
        with pytest.raises(ConfigError, match="is valid from 2025-12-31 to 2035-12-30; make a new CA"):
            ca.issue_to_client("a", now)


def test_two_cas_in_one_file(certs: Path, tmp_path: Path) -> None:
    """While one CA replaces another, all trust both, though they have one name; that with the key issues."""
    cert(tmp_path, "init", "--cluster", URLS)
    new = tmp_path / "certs"
    (new / "ca.crt").write_bytes((certs / "ca.crt").read_bytes() + (new / "ca.crt").read_bytes())
    cert(tmp_path, "node", "2", "10.0.0.2")
    for at_client, at_server, host in (certs, new, "10.0.0.2"), (new, certs, "10.0.0.2"):
        client = client_context(new / "ca.crt", Pair.at(at_client / "node-2"))
        handshake(client, server_context(new / "ca.crt", Pair.at(at_server / "node-2")), host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "node-2")), host)


def test_a_ca_of_ones_own(tmp_path: Path) -> None:
    """One that another program made, here OpenSSL with RSA, is used too; it names no cluster."""
    (tmp_path / "certs").mkdir()
    subject = ["-subj", "/CN=company", "-days", "9", "-keyout", "certs/ca.key", "-out", "certs/ca.crt"]
    uses = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # which Python 3.13 asks for
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *uses, *subject]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    said = refusal("cert", "node", "1", "a", directory=tmp_path)
    assert said == "the CA in certs does not say for which cluster it is; give --cluster-id"
    cert(tmp_path, "node", "1", "a", "--cluster-id", "2b")
    cert(tmp_path, "client", "root")
    certs = tmp_path / "certs"
    client = client_context(certs / "ca.crt", Pair.at(certs / "client-root"))
    handshake(client, server_context(certs / "ca.crt", Pair.at(certs / "node-1")), "a")
    assert isinstance(loaded(certs / "ca.crt").public_key(), rsa.RSAPublicKey)
