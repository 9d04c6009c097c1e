"""`cert revoke`: a CRL that OpenSSL and Python's ssl module accept, with what was revoked."""

import re
import shutil
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.cli.certificates import INIT, cert, loaded
from tests.cli.program import refusal
from tests.tls.certificates import Pair
from tests.tls.handshakes import client_context, handshake, server_context


@pytest.fixture
def made(certs: Path, tmp_path: Path) -> Path:
    """A CA, and the certificates of two nodes and a client."""
    return Path(shutil.copytree(certs, tmp_path / "certs"))


def accepted(certs: Path) -> set[str]:
    """Which of them a node lets in that has the CRL."""
    server = server_context(certs / "ca.crt", Pair.at(certs / "node-1"), certs / "ca.crl")
    names = set()
    for name in ("node-1", "node-2", "client-root"):
        try:
            handshake(client_context(certs / "ca.crt", Pair.at(certs / name)), server, "10.0.0.1")
            names.add(name)
        except ssl.SSLCertVerificationError:
            pass
    return names


def test_what_is_revoked_is_refused(made: Path) -> None:
    """One after the other, also once a new certificate has taken its place; twice is once."""
    tmp_path = made.parent
    assert cert(tmp_path, "revoke") == "certs/ca.crl: 0 revoked; give it to all nodes\n"
    assert accepted(made) == {"node-1", "node-2", "client-root"}
    assert cert(tmp_path, "revoke", "node-2") == "certs/ca.crl: 1 revoked; give it to all nodes\n"
    assert accepted(made) == {"node-1", "client-root"}
    cert(tmp_path, "revoke", "client-root", "node-2")
    assert accepted(made) == {"node-1"}
    old = loaded(made / "node-2.crt").serial_number
    cert(tmp_path, "node", "2", "10.0.0.1", "--force")
    assert accepted(made) == {"node-1", "node-2"}
    crl = x509.load_pem_x509_crl((made / "ca.crl").read_bytes())
    assert {one.serial_number for one in crl} == {old, loaded(made / "client-root.crt").serial_number}
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert crl.next_update_utc == loaded(made / "ca.crt").not_valid_after_utc
    assert crl.last_update_utc <= loaded(made / "node-2.crt").not_valid_before_utc + timedelta(days=1)
    assert (made / "ca.crl").stat().st_mode & 0o777 == 0o644


def replace_by_other(made: Path) -> None:
    """The CRL of another CA."""
    (made.parent / "other").mkdir()
    cert(made.parent / "other", *INIT)
    cert(made.parent / "other", "revoke")
    (made.parent / "other" / "certs" / "ca.crl").replace(made / "ca.crl")


def issue_elsewhere(made: Path) -> None:
    """The certificate of a node, by another CA of the same name."""
    (made.parent / "other").mkdir()
    cert(made.parent / "other", *INIT)
    cert(made.parent / "other", "node", "2", "10.0.0.1")
    (made.parent / "other" / "certs" / "node-2.crt").replace(made / "node-2.crt")


def double(made: Path) -> None:
    cert(made.parent, "revoke")
    (made / "ca.crl").write_bytes(2 * (made / "ca.crl").read_bytes())


@pytest.mark.parametrize(
    ("change", "name", "sentence"),
    [
        (None, "node-3", r"certs/node-3\.crt does not exist; put the certificate to be revoked there"),
        (None, "../node-2", r"'\.\./node-2' is no name of a certificate, such as node-2 or client-alice"),
        (None, "ca", r"certs/ca\.crt is the CA itself; to replace a CA, see docs/operating\.md"),
        (issue_elsewhere, "node-2", r"certs/node-2\.crt is no certificate that this CA has issued"),
        (replace_by_other, "node-2", r"certs/ca\.crl is the CRL of another CA; move it away, .*"),
        (double, "node-2", r"certs/ca\.crl has several CRLs, and may only have this CA's; .*"),
        (lambda made: (made / "ca.crl").write_text("x"), "node-2", r"certs/ca\.crl is no CRL in PEM: .*"),
    ],
)
def test_what_is_wrong(made: Path, change: Callable[[Path], object] | None, name: str, sentence: str) -> None:
    """One sentence says what, and the CRL stays as it is."""
    if change is not None:
        change(made)
    crl = made / "ca.crl"
    before = crl.read_bytes() if crl.exists() else None
    said = refusal("cert", "revoke", "node-1", name, directory=made.parent)
    assert re.fullmatch(sentence, said), said
    assert (crl.read_bytes() if crl.exists() else None) == before
