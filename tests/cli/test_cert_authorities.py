"""The lives of CAs: one that ends, one that replaces another, one that another program made."""

import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from raftkv_trio.certificates.authority import Authority, make_authority
from raftkv_trio.errors import ConfigError
from tests.cli.certificates import NOW, URLS, cert, loaded
from tests.cli.program import refusal
from tests.tls.certificates import Pair
from tests.tls.handshakes import client_context, handshake, server_context


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
