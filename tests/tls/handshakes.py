"""TLS handshakes in memory, with the strict checks of certificates that Python 3.13 makes by default."""

import ssl
from pathlib import Path
from typing import Any

from tests.tls.certificates import Pair


def server_context(authority: Path, own: Pair, crl: Path | None = None) -> ssl.SSLContext:
    """Of a server that demands a certificate of clients."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, authority, own, crl)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: Path, own: Pair, crl: Path | None = None) -> ssl.SSLContext:
    """Of a client that shows a certificate."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, authority, own, crl)


def _context(protocol: int, authority: Path, own: Pair, crl: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(authority)
    if crl is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.load_verify_locations(crl)
    context.load_cert_chain(own.certificate, own.key)
    return context


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, host: str
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands over two buffers; returns the server's end and the client's, as each sees the other.

    Raises the ssl.SSLError of the end that refuses first.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_client = client.wrap_bio(to_client, to_server, server_hostname=host)
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [at_client, at_server]
    while waiting:
        # In TLS 1.3 a client is done before the server has seen its certificate.
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return at_server, at_client


def peer_certificate(end: ssl.SSLObject) -> dict[str, Any]:
    """The certificate that this end has got, as Python shows it."""
    certificate = end.getpeercert()
    assert certificate is not None
    return certificate


def peer_names(end: ssl.SSLObject) -> list[tuple[str, str]]:
    """The names in it: kinds, such as `URI`, and values."""
    return list(peer_certificate(end).get("subjectAltName", ()))
