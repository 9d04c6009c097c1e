"""The certificates of tests are wrong in the way that they say, and in no other."""

import ssl
from pathlib import Path

import pytest

from tests.tls.certificates import CLUSTER_ID, DAY, WRONG, Authority
from tests.tls.handshakes import client_context, handshake, peer_names, server_context

NODE_1 = ("URI", f"raftkv://{CLUSTER_ID:x}/1")


def test_right_certificates(tmp_path: Path) -> None:
    """Both ends accept the other, though a CRL is checked, and each sees which node the other is."""
    ca = Authority(tmp_path)
    ca.revoke(ca.node(1))
    crl = ca.revoke()
    client = client_context(ca.certificate, ca.node(2), crl)
    at_server, at_client = handshake(client, server_context(ca.certificate, ca.node(1), crl), "127.0.0.1")
    assert ("URI", f"raftkv://{CLUSTER_ID:x}/2") in peer_names(at_server)
    assert NODE_1 in peer_names(at_client)


@pytest.mark.parametrize("way", WRONG)
@pytest.mark.parametrize("is_server", [True, False])
def test_wrong_certificates(tmp_path: Path, way: str, is_server: bool) -> None:
    """OpenSSL refuses each for its reason; if it does not, the name of node 1 is not in it."""
    (tmp_path / "other").mkdir()
    ca, other = Authority(tmp_path), Authority(tmp_path / "other")
    wrong = WRONG[way].make(ca, other)
    crl = ca.revoke()
    own = server_context if is_server else client_context
    peer = client_context if is_server else server_context
    contexts = [own(ca.certificate, wrong, crl), peer(ca.certificate, ca.node(3), crl)]
    client, server = reversed(contexts) if is_server else contexts
    reason = WRONG[way].as_server if is_server else WRONG[way].as_client
    if reason is None:
        at_server, at_client = handshake(client, server, "127.0.0.1")
        names = peer_names(at_client if is_server else at_server)
        # Those that are for one kind of use are right for the other.
        assert (NODE_1 in names) is (way in ("for clients only", "for servers only"))
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            handshake(client, server, "127.0.0.1")


@pytest.mark.parametrize(("begins", "ends"), [(-2, -1), (1, 2)])
def test_a_crl_of_another_time(tmp_path: Path, begins: int, ends: int) -> None:
    """A CRL that is over, or has not begun, refuses everybody."""
    ca = Authority(tmp_path)
    crl = ca.crl(begins=begins * DAY, ends=ends * DAY)
    client = client_context(ca.certificate, ca.node(2), crl)
    with pytest.raises(ssl.SSLCertVerificationError, match="CRL"):
        handshake(client, server_context(ca.certificate, ca.node(1)), "127.0.0.1")


def test_a_ca_that_has_expired(tmp_path: Path) -> None:
    """It vouches for nobody any more."""
    ca = Authority(tmp_path, ends=-DAY)
    client = client_context(ca.certificate, ca.node(2))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(client, server_context(ca.certificate, ca.node(1)), "127.0.0.1")
