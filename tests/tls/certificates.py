"""A CA for tests, whose certificates can be wrong in each way.

It uses nothing of the package: a mistake that the package makes, in a name or a date, must not hide here.
"""

import ipaddress
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLUSTER_ID = 0x1A2B
DAY = timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
LOCAL = ("127.0.0.1", "::1", "localhost")
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and of its key, in PEM."""

    certificate: Path
    key: Path

    @classmethod
    def at(cls, prefix: Path) -> "Pair":
        """The files that `cert` makes: `prefix` with the endings .crt and .key."""
        return cls(Path(f"{prefix}.crt"), Path(f"{prefix}.key"))

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


class Authority:
    """A CA that issues whatever a test asks for; its files are in `directory`.

    Args:
        name: of its files, and its own. Two CAs of one name have different keys.
        begins, ends: the life of its certificate, from now.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "ca",
        *,
        cluster_id: int = CLUSTER_ID,
        begins: timedelta = -10 * DAY,
        ends: timedelta = 10 * DAY,
    ) -> None:
        self.cluster_id = cluster_id
        self.certificate = directory / f"{name}.crt"
        self._directory = directory
        self._name = _name(name)
        self._key = _new_key()
        self._numbers = itertools.count(1)
        self._revoked: list[x509.RevokedCertificate] = []
        signed = (
            _builder(self._name, self._name, self._key, begins, ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def node(
        self,
        node_id: int,
        hosts: Iterable[str] = LOCAL,
        *,
        cluster_id: int | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        uses: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
    ) -> Pair:
        """The certificate of a node, as `cert node` makes it, but for what is asked for."""
        cluster_id = self.cluster_id if cluster_id is None else cluster_id
        uri = f"raftkv://{cluster_id:x}/{node_id}"
        return self.issue(f"node-{node_id}", [uri], hosts, begins=begins, ends=ends, uses=uses)

    def client(self, name: str = "client", *, begins: timedelta = -DAY, ends: timedelta = DAY) -> Pair:
        """The certificate of a client, as `cert client` makes it: for no server, and without names."""
        return self.issue(name, begins=begins, ends=ends, uses=[CLIENT])

    def issue(
        self,
        name: str,
        uris: Iterable[str] = (),
        hosts: Iterable[str] = (),
        *,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        uses: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
    ) -> Pair:
        """A certificate with these names; a host may have a wildcard. Each call makes files of their own.

        Args:
            begins, ends: from now, negative if before.
        """
        key = _new_key()
        names = [*map(x509.UniformResourceIdentifier, uris), *map(_host, hosts)]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_name(name), self._name, key, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(issuer, critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        pair = Pair.at(self._directory / f"{self.certificate.stem}-{next(self._numbers)}-{name}")
        pair.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pair.key.touch(0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def revoke(self, *pairs: Pair) -> Path:
        """The file of a CRL of these, and of all that were revoked before; of none if none is given."""
        now = datetime.now(UTC)
        self._revoked += [
            x509.RevokedCertificateBuilder()
            .serial_number(pair.parsed.serial_number)
            .revocation_date(now - DAY)
            .build()
            for pair in pairs
        ]
        return self.crl()

    def crl(self, *, begins: timedelta = -DAY, ends: timedelta = DAY) -> Path:
        """The same file, for a time that may be over or has not begun."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self._name, last_update=now + begins, next_update=now + ends
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        builder = builder.add_extension(x509.CRLNumber(next(self._numbers)), critical=False)
        for revoked in self._revoked:
            builder = builder.add_revoked_certificate(revoked)
        file = self.certificate.with_suffix(".crl")
        file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return file


@dataclass(frozen=True, slots=True)
class Wrong:
    """A way in which the certificate of node 1 is wrong.

    Attributes:
        make: makes it, with the CA that is trusted, another one of the same name, and the CRL to check.
        as_server, as_client: how OpenSSL names it at the other end, if the node accepts or opens a
            connection; None: the handshake succeeds, and the names alone tell that this is not node 1.
    """

    make: Callable[[Authority, Authority], Pair]
    as_server: str | None
    as_client: str | None


def _revoked(own: Authority, other: Authority) -> Pair:
    pair = own.node(1)
    own.revoke(pair)
    return pair


#: The node is reached at 127.0.0.1, and the CRL of the CA is checked.
WRONG: dict[str, Wrong] = {
    "expired": Wrong(lambda own, _: own.node(1, begins=-3 * DAY, ends=-DAY), "expired", "expired"),
    "not yet valid": Wrong(
        lambda own, _: own.node(1, begins=DAY, ends=3 * DAY), "not yet valid", "not yet valid"
    ),
    "of another CA": Wrong(lambda _, other: other.node(1), "unable to get", "unable to get"),
    "revoked": Wrong(_revoked, "revoked", "revoked"),
    "for clients only": Wrong(lambda own, _: own.node(1, uses=[CLIENT]), "purpose", None),
    "for servers only": Wrong(lambda own, _: own.node(1, uses=[SERVER]), None, "purpose"),
    "of another node": Wrong(lambda own, _: own.node(2), None, None),
    "of another cluster": Wrong(lambda own, _: own.node(1, cluster_id=CLUSTER_ID + 1), None, None),
    "with a wildcard": Wrong(lambda own, _: own.issue("wildcard", [], ["*.example"]), "mismatch", None),
    "with an IP address alone": Wrong(lambda own, _: own.issue("ip", [], ["127.0.0.1"]), None, None),
    "with another IP address": Wrong(lambda own, _: own.issue("ip", [], ["127.0.0.2"]), "mismatch", None),
    "without names": Wrong(lambda own, _: own.issue("raftkv-trio node 1"), "mismatch", None),
    "of a client": Wrong(lambda own, _: own.client("node 1"), "purpose", None),
}


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _USES})


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: timedelta,
    ends: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
