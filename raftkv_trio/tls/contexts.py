"""From files to contexts of OpenSSL that have been tried.

What a context is made of is tried before it is used: the certificate makes a handshake, in memory, with one
who trusts it. That shows that key and certificate belong together, that the certificate is valid now, and
that it may be used for what it is for.
"""

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from raftkv_trio.config import ClientTls, PeerTls
from raftkv_trio.errors import ConfigError
from raftkv_trio.tls.names import Names, NodeCheck, is_named

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# TLS 1.2 with forward secrecy and authenticated encryption only; those of 1.3 are all like that.
_CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_EXPIRED, _NOT_YET_VALID, _REVOKED = 10, 9, 23  # X509_V_ERR_... of OpenSSL
_NO_CRL, _CRL_NOT_YET_VALID, _CRL_EXPIRED = 3, 11, 12
_Certificate: TypeAlias = Mapping[str, Any]
_CLOCK = "renew it, or set this machine's clock if that is wrong"


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one side, each with the field of the configuration that names it.

    Attributes:
        certificate, key, authorities, revoked: a field's name and the path; the last two may be None.
        min_version: the lowest version of TLS.
        node_id: of the node that shows the certificate; None: the certificate may be of any node.
        allowed: names of certificates that may speak for any node.
    """

    certificate: tuple[str, Path]
    key: tuple[str, Path]
    authorities: tuple[str, Path] | None
    revoked: tuple[str, Path] | None
    min_version: str
    node_id: int | None = None
    allowed: tuple[str, ...] = ()

    @classmethod
    def of_clients(cls, tls: ClientTls) -> "Files":
        """What the port for clients is made of."""
        assert tls.cert_file is not None
        assert tls.key_file is not None
        return cls(
            ("cert_file", tls.cert_file),
            ("key_file", tls.key_file),
            None if tls.trusted_ca_file is None else ("trusted_ca_file", tls.trusted_ca_file),
            None if tls.client_crl_file is None else ("client_crl_file", tls.client_crl_file),
            tls.tls_min_version,
        )

    @classmethod
    def of_peers(cls, tls: PeerTls, node_id: int | None = None) -> "Files":
        """What the connections between members are made of; `node_id` as in the attributes."""
        assert tls.peer_cert_file is not None
        assert tls.peer_key_file is not None
        assert tls.peer_trusted_ca_file is not None
        return cls(
            ("peer_cert_file", tls.peer_cert_file),
            ("peer_key_file", tls.peer_key_file),
            ("peer_trusted_ca_file", tls.peer_trusted_ca_file),
            None if tls.peer_crl_file is None else ("peer_crl_file", tls.peer_crl_file),
            "1.3",
            node_id,
            tls.peer_cert_allowed_san,
        )

    def read(self) -> Mapping[str, bytes]:
        """The content of each file, by its field. Raises ConfigError if one cannot be read."""
        contents = {}
        for name, path in filter(None, (self.certificate, self.key, self.authorities, self.revoked)):
            try:
                contents[name] = path.read_bytes()
            except OSError as error:
                raise ConfigError(f"cannot read `{name}` {path}: {error.strerror or error}") from error
        return contents


class Life(NamedTuple):
    """How long a certificate is valid. If its file has several, this is the one that ends first.

    Attributes:
        field, path: the file, and the field of the configuration that names it.
        is_own: whether it is this side's own, or one between it and its CA; else it is a CA that is trusted.
        not_before, not_after: in seconds since 1970.
    """

    field: str
    path: Path
    is_own: bool
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Contexts:
    """What connections are made with, all of one moment.

    Attributes:
        server, client: for connections that are accepted, and for those that are dialled.
        server_http_2: as `server`, for a port that speaks HTTP/2 too: clients of gRPC want to be told (ALPN).
        lives: of this side's own certificate, and of the CAs that it trusts, if there are any.
    """

    server: ssl.SSLContext
    server_http_2: ssl.SSLContext
    client: ssl.SSLContext
    lives: tuple[Life, ...]

    @property
    def not_after(self) -> float:
        """When this side's own certificate ends, in seconds since 1970."""
        return self.lives[0].not_after


def make_contexts(files: Files) -> Contexts:
    """Contexts that have been tried; takes milliseconds. Raises ConfigError, which names fields and files."""
    contents = files.read()
    leaf = _first_certificate(files.certificate, contents)
    _check_key(files.key, contents)
    if files.revoked is not None:
        _check_revoked(files.revoked, contents)
    server, server_http_2, client = (_context(files, protocol) for protocol in _PROTOCOLS)
    server_http_2.set_alpn_protocols(["h2", "http/1.1"])
    own = _try_certificate(files, leaf)
    _check_node(files, Names.of(own))
    if files.authorities is not None and files.authorities[0] == "peer_trusted_ca_file":
        _try_each_other(files, server, client)
    between = _certificates_between(files.certificate, contents)
    lives = [_life(files.certificate, [own, *between], is_own=True)]
    if files.authorities is not None and (trusted := server.get_ca_certs()):
        lives.append(_life(files.authorities, trusted, is_own=False))
    return Contexts(server, server_http_2, client, tuple(lives))


_PROTOCOLS = (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)


def _context(files: Files, protocol: int, *, verifies: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = _VERSIONS[files.min_version]
    context.set_ciphers(_CIPHERS_1_2)
    # No tickets: they come after the handshake, and an end that only sends never reads them, so that both
    # could wait for room. No new handshake on a connection: it costs the server more than the client.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    else:
        context.check_hostname = False  # `names.py` says what counts instead
    try:
        context.load_cert_chain(files.certificate[1], files.key[1], password=_no_passphrase)
    except OSError as error:  # ssl.SSLError is one
        raise _pair_refused(files, error) from error
    context.verify_mode = ssl.CERT_NONE
    if verifies and files.authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, files.authorities)
        if files.revoked is not None:
            _trust(context, files.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _certificates_between(file: tuple[str, Path], contents: Mapping[str, bytes]) -> Sequence[_Certificate]:
    """What Python tells of the certificates between a server's own and its CA."""
    name, path = file
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # Python tells of CAs that a context trusts
    try:
        for pem in _CERTIFICATE.findall(contents[name].decode("latin-1"))[1:]:
            context.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(pem))
    except (ValueError, ssl.SSLError) as error:
        raise ConfigError(
            f"`{name}` {path} has a certificate that cannot be read, after the first"
        ) from error
    return context.get_ca_certs()


def _life(file: tuple[str, Path], certificates: Iterable[_Certificate], *, is_own: bool) -> Life:
    times = [
        (_seconds(certificate, "notAfter"), _seconds(certificate, "notBefore"))
        for certificate in certificates
    ]
    not_after, not_before = min(times)
    return Life(*file, is_own, not_before, not_after)


def _seconds(certificate: _Certificate, name: str) -> float:
    return float(ssl.cert_time_to_seconds(str(certificate[name])))


def _no_passphrase() -> bytes:
    return b""  # asking a terminal for it would stop the program


def _trust(context: ssl.SSLContext, file: tuple[str, Path]) -> None:
    name, path = file
    try:
        context.load_verify_locations(path)
    except OSError as error:
        what = "no CRL in PEM" if name.endswith("crl_file") else "no certificate in PEM"
        raise ConfigError(f"`{name}` {path} has {what}, or cannot be read") from error


def _pair_refused(files: Files, error: OSError) -> ConfigError:
    (certificate, certificate_path), (key, key_path) = files.certificate, files.key
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return ConfigError(
            f"`{key}` {key_path} is not the key of the certificate in `{certificate}` {certificate_path}"
        )
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return ConfigError(
        f"`{certificate}` {certificate_path} and `{key}` {key_path} are no certificate and key that can be"
        f" used: {str(reason).replace('_', ' ').lower()}"
    )


def _first_certificate(file: tuple[str, Path], contents: Mapping[str, bytes]) -> bytes:
    """In DER. The first one of a chain is the server's own."""
    name, path = file
    match = _CERTIFICATE.search(contents[name].decode("latin-1"))
    if match is None:
        raise ConfigError(f"`{name}` {path} has no certificate in PEM")
    try:
        return ssl.PEM_cert_to_DER_cert(match[0])
    except ValueError as error:
        raise ConfigError(f"`{name}` {path} has no whole certificate in PEM") from error


def _check_key(file: tuple[str, Path], contents: Mapping[str, bytes]) -> None:
    name, path = file
    if b"PRIVATE KEY-----" not in contents[name]:
        raise ConfigError(f"`{name}` {path} has no private key in PEM")
    if b"ENCRYPTED" in contents[name]:
        raise ConfigError(f"`{name}` {path} has a passphrase; remove it with `openssl pkey`")


def _check_node(files: Files, names: Names) -> None:
    """Refuse the certificate of another node, which would keep this one away from all members."""
    name, path = files.certificate
    is_of_others = bool(names.nodes) and not NodeCheck(files.allowed).is_allowed(names)
    if files.node_id is not None and is_of_others and not is_named(names, None, files.node_id):
        raise ConfigError(
            f"`{name}` {path} is for {names}, and this is node {files.node_id}; name the files of its own"
            f" certificate, or make one (`raftkv-trio cert node {files.node_id} HOST...`)"
        )


def _check_revoked(file: tuple[str, Path], contents: Mapping[str, bytes]) -> None:
    name, path = file
    # OpenSSL would take a certificate in this file for a CA that is trusted.
    if re.search(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----", contents[name]):
        raise ConfigError(f"`{name}` {path} has a certificate; name a file with CRLs only")


# ---------------------------------------------------------------- trying


def _try_certificate(files: Files, leaf: bytes) -> _Certificate:
    """Make a handshake with one who trusts this very certificate; returns what Python tells of it."""
    name, path = files.certificate
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=leaf)
    plain_server = _context(files, ssl.PROTOCOL_TLS_SERVER, verifies=False)
    try:
        certificate = _handshake(plain_server, trusting).getpeercert()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"`{name}` {path} {_why_invalid(error)}") from error
    except ssl.SSLError as error:
        raise ConfigError(f"`{name}` {path} cannot be used: {error.reason or error}") from error
    assert certificate is not None  # it was verified
    return certificate


def _try_each_other(files: Files, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Make a handshake as between two members that have this node's files."""
    assert files.authorities is not None
    (name, path), (authorities, authorities_path) = files.certificate, files.authorities
    try:
        _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        if files.revoked is not None and (crl_flaw := _CRL_FLAWS.get(error.verify_code)) is not None:
            crl, crl_path = files.revoked
            raise ConfigError(f"`{crl}` {crl_path} {crl_flaw}, to check `{name}` {path}") from error
        why = _why_invalid(error)
        raise ConfigError(
            f"`{name}` {path} {why}, as members see it that trust `{authorities}` {authorities_path}"
        ) from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"`{name}` {path} cannot be used between members: {error.reason or error}"
        ) from error


_CRL_FLAWS = {
    _NO_CRL: "has no CRL of the CA that is needed",
    _CRL_NOT_YET_VALID: "has a CRL that is not valid yet",
    _CRL_EXPIRED: "has a CRL that is out of date",
}


def _why_invalid(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return f"has expired; {_CLOCK}"
    if error.verify_code == _NOT_YET_VALID:
        return f"is not valid yet; {_CLOCK}"
    if error.verify_code == _REVOKED:
        return "was revoked; use another one"
    return f"is no certificate that others accept: {error.verify_message}"


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both sides of a handshake in memory; returns the client's. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    open_sides = list(sides)
    while open_sides:
        for side in list(open_sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_sides.remove(side)
    return sides[0]
