"""Files become contexts only if they work; what is wrong with them is told by field and file."""

import os
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.tls.contexts import Contexts, Files, make_contexts
from tests.tls.certificates import CLIENT, DAY, Authority, Pair
from tests.tls.configs import client_tls, peer_tls


def of_clients(pair: Pair, **more: object) -> Contexts:
    return make_contexts(Files.of_clients(client_tls(pair, **more)))


def of_peers(ca: Authority, pair: Pair, **more: object) -> Contexts:
    return make_contexts(Files.of_peers(peer_tls(ca, pair, **more)))


def test_what_works_says_when_it_ends(ca: Authority) -> None:
    """In seconds since 1970."""
    import time

    pair = ca.node(1, ends=timedelta(hours=5))
    for contexts in (of_clients(pair), of_peers(ca, pair)):
        assert abs(contexts.not_after - time.time() - 5 * 3600) < 600


def _expired(ca: Authority) -> Pair:
    return ca.node(1, begins=-2 * DAY, ends=-timedelta(seconds=1))


def _early(ca: Authority) -> Pair:
    return ca.node(1, begins=timedelta(hours=1))


def _garbage(ca: Authority) -> Pair:
    pair = ca.node(1)
    pair.certificate.write_text("no certificate")
    return pair


def _torn(ca: Authority) -> Pair:
    pair = ca.node(1)
    pair.certificate.write_bytes(pair.certificate.read_bytes()[:300])
    return pair


def _no_key(ca: Authority) -> Pair:
    pair = ca.node(1)
    pair.key.write_text("")
    return pair


def _swapped(ca: Authority) -> Pair:
    return Pair(ca.node(1).certificate, ca.node(2).key)


def _missing(ca: Authority) -> Pair:
    pair = ca.node(1)
    pair.key.unlink()
    return pair


def _directory(ca: Authority) -> Pair:
    pair = ca.node(1)
    pair.certificate.unlink()
    pair.certificate.mkdir()
    return pair


def _encrypted(ca: Authority) -> Pair:
    pair = ca.node(1)
    command = ["openssl", "pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:x"]
    pair.key.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return pair


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            _expired,
            "`{cert_field}` {cert} has expired; renew it, or set this machine's clock if that is wrong",
        ),
        (_early, "`{cert_field}` {cert} is not valid yet; renew it, or set this machine's clock"),
        (_garbage, "`{cert_field}` {cert} has no certificate in PEM"),
        (_torn, "`{cert_field}` {cert} has no certificate in PEM"),
        (_no_key, "`{key_field}` {key} has no private key in PEM"),
        (_swapped, "`{key_field}` {key} is not the key of the certificate in `{cert_field}` {cert}"),
        (_missing, "cannot read `{key_field}` {key}: No such file or directory"),
        (_directory, "cannot read `{cert_field}` {cert}: Is a directory"),
        (_encrypted, "`{key_field}` {key} has a passphrase; remove it with `openssl pkey`"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "peer_"])
def test_what_is_wrong_is_told(
    ca: Authority, make: Callable[[Authority], Pair], sentence: str, prefix: str
) -> None:
    """For clients and for peers: whatever it is, nothing is served with it."""
    pair = make(ca)
    with pytest.raises(ConfigError) as refused:
        of_peers(ca, pair) if prefix else of_clients(pair)
    fields = {"cert_field": f"{prefix}cert_file", "key_field": f"{prefix}key_file"}
    assert str(refused.value).startswith(sentence.format(cert=pair.certificate, key=pair.key, **fields))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(ca: Authority) -> None:
    """As of another user."""
    pair = ca.node(1)
    pair.key.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        of_clients(pair)


def test_a_member_must_fit_to_the_others(ca: Authority, other_ca: Authority) -> None:
    """It is tried with itself: what it does not accept, other members with the same files do not either."""
    with pytest.raises(ConfigError, match=r"is no certificate that others accept: .* as members see it"):
        of_peers(ca, other_ca.node(1))
    with pytest.raises(ConfigError, match="is no certificate that others accept: unsuitable certificate"):
        of_peers(ca, ca.node(1, uses=[CLIENT]))
    pair = ca.node(1)
    of_peers(ca, pair, peer_crl_file=ca.revoke(ca.node(2)))
    with pytest.raises(ConfigError, match="was revoked; use another one"):
        of_peers(ca, pair, peer_crl_file=ca.revoke(pair))


@pytest.mark.parametrize(
    ("field", "what"), [("trusted_ca_file", "no certificate in PEM"), ("client_crl_file", "no CRL in PEM")]
)
def test_cas_and_crls_are_what_they_should_be(ca: Authority, tmp_path: Path, field: str, what: str) -> None:
    """An empty file would trust nobody, or refuse nobody."""
    (tmp_path / "empty").write_text("")
    more = {"client_cert_auth": True, "trusted_ca_file": ca.certificate, field: tmp_path / "empty"}
    with pytest.raises(ConfigError, match=f"`{field}` .*/empty has {what}"):
        of_clients(ca.node(1), **more)


def test_a_file_of_crls_trusts_nobody(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    """A certificate in it is refused: OpenSSL would take it for a CA that is trusted."""
    both = tmp_path / "both.crl"
    both.write_bytes(ca.crl().read_bytes() + other_ca.certificate.read_bytes())
    tls = {"client_cert_auth": True, "trusted_ca_file": ca.certificate}
    with pytest.raises(ConfigError, match=r"`client_crl_file` .*/both\.crl has a certificate; name a file"):
        of_clients(ca.node(1), **tls, client_crl_file=both)
    with pytest.raises(ConfigError, match=r"`peer_crl_file` .*/both\.crl has a certificate; name a file"):
        of_peers(ca, ca.node(1), peer_crl_file=both)


@pytest.mark.parametrize(
    ("begins", "ends", "flaw"),
    [
        (-2 * DAY, -DAY, "is out of date"),
        (DAY, 2 * DAY, "is not valid yet"),
        (None, None, "no CRL of the CA"),
    ],
)
def test_a_crl_that_lets_nobody_in(
    ca: Authority, other_ca: Authority, begins: timedelta | None, ends: timedelta | None, flaw: str
) -> None:
    """The sentence is about the CRL, not about the certificate that it would check."""
    crl = other_ca.crl() if begins is None or ends is None else ca.crl(begins=begins, ends=ends)
    with pytest.raises(ConfigError, match=f"^`peer_crl_file` {re.escape(str(crl))} has .*{flaw}"):
        of_peers(ca, ca.node(1), peer_crl_file=crl)


def test_two_cas_at_once(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    """As while one replaces the other: certificates of both are accepted."""
    both = tmp_path / "both.crt"
    both.write_bytes(ca.certificate.read_bytes() + other_ca.certificate.read_bytes())
    for authority in (ca, other_ca):
        of_peers(ca, authority.node(1), peer_trusted_ca_file=both)
