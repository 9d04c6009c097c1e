"""The CA of a cluster, and the certificates that it issues to nodes and clients.

They have what the strict checks of OpenSSL and of Python 3.13 ask for (RFC 5280, section 4.2): key
identifiers, basic constraints, and the uses of each key. Keys are EC keys on P-256, signatures have SHA-256.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftkv_trio.certificates.names import Host, cluster_id_in, cluster_uri, node_uri, parse_host
from raftkv_trio.errors import ConfigError

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
#: How long before it is made a certificate is valid already: the clocks of other machines may be behind.
BACKDATED = timedelta(days=1)
SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key.

    Attributes:
        certificate: in PEM.
        key: in PEM, PKCS #8, not encrypted.
        not_after: the end of the certificate's life, in UTC.
    """

    certificate: bytes
    key: bytes
    not_after: datetime


def make_authority(cluster_id: int, now: datetime) -> Issued:
    """A new CA for this cluster, valid for ten years; it may sign certificates and CRLs, but no CA."""
    key = _new_key()
    name = _name(f"raftkv-trio CA of cluster {cluster_id:x}, {now:%Y-%m-%d}")  # the next CA has another one
    signs = _key_usage(signs_certificates=True)
    builder = (
        _builder(name, key, now - BACKDATED, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(_alternative_names([x509.UniformResourceIdentifier(cluster_uri(cluster_id))]), False)
        .issuer_name(name)
    )
    return _issued(builder.sign(key, hashes.SHA256()), key)


@dataclass(frozen=True)
class Authority:
    """A CA that issues certificates: its certificate, and the key that belongs to it."""

    certificate: x509.Certificate
    key: SigningKey

    @classmethod
    def load(cls, certificates: bytes, key: bytes, *, called: str, key_called: str) -> "Authority":
        """The CA whose key this is.

        Args:
            certificates: PEM of one certificate or several, as while one CA replaces another.
            key: PEM of a private key that is not encrypted, for EC or RSA.
            called, key_called: what errors call the two.

        Raises ConfigError: a text is not of that kind, or there is no CA with this key.
        """
        private = _load_key(key, key_called)
        try:
            candidates = x509.load_pem_x509_certificates(certificates)
        except ValueError as error:
            raise ConfigError(f"{called} has no certificates in PEM: {error}") from error
        own = [one for one in candidates if _has_key(one, private)]
        if not own:
            raise ConfigError(f"{key_called} is not the key of {called}; find the one that belongs to it")
        newest = max(own, key=lambda one: one.not_valid_after_utc)
        if not _is_authority(newest):
            raise ConfigError(f"{called} is no certificate of a CA")
        return cls(newest, private)

    @cached_property
    def cluster_id(self) -> int | None:
        """The cluster that the CA was made for; None if its certificate does not say so."""
        try:
            names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return None
        found = map(cluster_id_in, names.get_values_for_type(x509.UniformResourceIdentifier))
        return next((cluster_id for cluster_id in found if cluster_id is not None), None)

    def issue_to_node(self, cluster_id: int, node_id: int, hosts: Iterable[str], now: datetime) -> Issued:
        """A certificate for a node, as a server and as a client of other nodes, valid for a year.

        Args:
            hosts: host names and IP addresses at which clients and members reach the node.

        Raises ConfigError: a host is none, or the CA is not valid now.
        """
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(node_uri(cluster_id, node_id))]
        names += map(_name_of_host, dict.fromkeys(map(parse_host, hosts)))
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(f"raftkv-trio node {node_id}", uses, names, now)

    def issue_to_client(self, name: str, now: datetime) -> Issued:
        """A certificate for a client of this name, valid for a year. Raises ConfigError: the CA is not."""
        return self._issue(name, [ExtendedKeyUsageOID.CLIENT_AUTH], [], now)

    def _issue(
        self, name: str, uses: list[x509.ObjectIdentifier], names: list[x509.GeneralName], now: datetime
    ) -> Issued:
        begin, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if not begin <= now < end:
            raise ConfigError(
                f"the certificate of the CA is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}; make a new CA"
            )
        key = _new_key()
        builder = (
            _builder(_name(name), key, max(begin, now - BACKDATED), min(end, now + LEAF_LIFE))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(self.identifier(), critical=False)
            .issuer_name(self.certificate.subject)
        )
        if names:
            builder = builder.add_extension(_alternative_names(names), critical=False)
        return _issued(builder.sign(self.key, hashes.SHA256()), key)

    def identifier(self) -> x509.AuthorityKeyIdentifier:
        """How what it signs names its key."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _load_key(pem: bytes, called: str) -> SigningKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # so cryptography says that it needs a password
        raise ConfigError(f"{called} is encrypted; decrypt it, as with `openssl pkey`") from error
    except ValueError as error:
        raise ConfigError(f"{called} is no private key in PEM: {error}") from error
    if not isinstance(key, SigningKey):
        raise ConfigError(f"{called} is neither an EC nor an RSA key")
    return key


def _has_key(certificate: x509.Certificate, key: SigningKey) -> bool:
    return certificate.public_key() == key.public_key()


def _is_authority(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        return is_ca and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as error:
        return error.oid == x509.KeyUsage.oid  # a CA without this may use its key for everything


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _name_of_host(host: Host) -> x509.GeneralName:
    return x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host)


def _alternative_names(names: list[x509.GeneralName]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.not_valid_after_utc,
    )
