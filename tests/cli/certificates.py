"""Certificates as the `cert` commands make them."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from tests.cli.program import run

URLS = "http://10.0.0.1:9021,http://10.0.0.2:9021"
CLUSTER_ID = cluster_id_of(parse_cluster(URLS), "")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ("raftkv1.Example", "b\xfccher.example.", "10.0.0.1", "[::1]", "10.0.0.1")
INIT = ("init", "--cluster", URLS)


def cert(directory: Path, *arguments: str) -> str:
    """What a `cert` command prints."""
    done = run("cert", *arguments, directory=directory)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def pem_of(
    key: PrivateKeyTypes,
    encryption: KeySerializationEncryption = NoEncryption(),  # noqa: B008 - immutable
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
