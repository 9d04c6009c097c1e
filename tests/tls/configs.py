"""Configurations of nodes and clients with certificates of tests."""

from pathlib import Path

from raftkv_trio.config import ClientTls, PeerTls
from raftkv_trio.tls.clients import Trust
from tests.tls.certificates import Authority, Pair


def peer_tls(authority: Authority, pair: Pair, **more: object) -> PeerTls:
    """That of a member with this certificate."""
    files = {
        "peer_cert_file": pair.certificate,
        "peer_key_file": pair.key,
        "peer_trusted_ca_file": authority.certificate,
    }
    return PeerTls(**(files | more))  # type: ignore[arg-type]


def client_tls(pair: Pair, **more: object) -> ClientTls:
    """That of a port for clients with this certificate."""
    return ClientTls(**({"cert_file": pair.certificate, "key_file": pair.key} | more))  # type: ignore[arg-type]


def trust(authority: Authority, pair: Pair | None = None) -> Trust:
    """That of a client that trusts this CA, and shows this certificate."""
    return Trust(
        ca_file=authority.certificate,
        client_cert_file=None if pair is None else pair.certificate,
        client_key_file=None if pair is None else pair.key,
    )


def replace_file(file: Path, by: Path) -> None:
    """Give a file another one's content, at once."""
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(by.read_bytes())
    new.replace(file)


def replace_pair(pair: Pair, by: Pair) -> None:
    """Give the files of a certificate and its key the content of others, the certificate first."""
    replace_file(pair.certificate, by.certificate)
    replace_file(pair.key, by.key)
