"""The CRL of a CA: the certificates that it has revoked (RFC 5280, section 5)."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from raftkv_trio.certificates.authority import BACKDATED, Authority
from raftkv_trio.certificates.files import AUTHORITY, MAX_FILE_BYTES, PUBLIC_MODE, paths_of
from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import new_file, read_user_file, write_durably


def revoke(directory: Path, authority: Authority, names: Iterable[str], now: datetime) -> tuple[Path, int]:
    """Write `ca.crl` anew: with what it has already, and the certificates of these names in the directory.

    It is valid as long as the CA: nobody is let in by a node whose CRL is out of date.

    Returns its path, and how many certificates it has.

    Raises ConfigError if a certificate is not there or not one of this CA, or `ca.crl` is not its CRL; then
    nothing is written. And OSError if it cannot be written.
    """
    file = directory / f"{AUTHORITY}.crl"
    known = _read(file, authority)
    revoked = {} if known is None else {one.serial_number: one for one in known}
    for name in names:
        number = _issued_number(paths_of(directory, name)[0], authority)
        one = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        revoked.setdefault(number, one)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(max(authority.certificate.not_valid_before_utc, now - BACKDATED))
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(authority.identifier(), critical=False)
        .add_extension(x509.CRLNumber(_number(known) + 1), critical=False)
    )
    for one in revoked.values():
        builder = builder.add_revoked_certificate(one)
    signed = builder.sign(authority.key, hashes.SHA256())
    with new_file(file, replaces=True) as new:
        write_durably(new, signed.public_bytes(Encoding.PEM), PUBLIC_MODE)
    return file, len(revoked)


def _read(file: Path, authority: Authority) -> x509.CertificateRevocationList | None:
    """The CRL as it is; None if there is none yet."""
    try:
        data = read_user_file(file, max_bytes=MAX_FILE_BYTES, is_private=False)
    except FileNotFoundError:
        return None
    try:
        crl = x509.load_pem_x509_crl(data)
        is_own = crl.is_signature_valid(authority.key.public_key())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file} is no CRL in PEM: {error}") from error
    if data.count(b"BEGIN X509 CRL") != 1:
        raise ConfigError(f"{file} has several CRLs, and may only have this CA's; keep the others elsewhere")
    if not is_own:
        raise ConfigError(f"{file} is the CRL of another CA; move it away, and revoke again what it had")
    return crl


def _number(crl: x509.CertificateRevocationList | None) -> int:
    if crl is None:
        return 0
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _issued_number(file: Path, authority: Authority) -> int:
    """The serial number of a certificate that this CA has issued."""
    try:
        certificate = x509.load_pem_x509_certificate(
            read_user_file(file, max_bytes=MAX_FILE_BYTES, is_private=False)
        )
        certificate.verify_directly_issued_by(authority.certificate)
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist; put the certificate to be revoked there") from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigError(f"{file} is no certificate that this CA has issued") from error
    if certificate.subject == certificate.issuer:
        raise ConfigError(f"{file} is the CA itself; to replace a CA, see docs/operating.md")
    return certificate.serial_number
