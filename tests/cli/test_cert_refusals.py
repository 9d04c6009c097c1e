"""What the `cert` commands refuse: arguments, names, files and CAs; and which files they replace."""

import os
import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
)
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.certificates.names import parse_host
from raftkv_trio.errors import ConfigError
from tests.cli.certificates import INIT, cert, pem_of
from tests.cli.program import PROGRAM, refusal, run

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
            "--cluster-id 'cluster' is not an id as `raftkv-trio status -w json` shows it",
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
    for arguments in INIT, ("node", "1", "a"), ("client", "root"), ("revoke",), ("local",):
        said = refusal("cert", *arguments, directory=directory, environment=environment)
        assert said == (
            "`raftkv-trio cert` needs the package cryptography (no cryptography here); install it with `pip"
            " install cryptography`"
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
