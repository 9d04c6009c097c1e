"""Members with certificates: each is who its certificate says, or is refused, and both sides say why."""

import ssl
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.joining import Joiner
from raftkv_trio.tls.network import open_tls_network
from raftkv_trio.tls.stream import TlsStream, Turns
from raftkv_trio.world import TcpNetwork
from tests.peers.handmade import CLUSTER_ID, Side
from tests.peers.hostile import listening
from tests.peers.members import connected, in_trouble, until
from tests.tls.certificates import WRONG, Authority, Pair
from tests.tls.configs import peer_tls
from tests.tls.members import member, words_in

#: Of `WRONG`: those that are right for the node that dials, and for the one that is dialled. An IP address is
#: that at which node 1 is.
RIGHT_TO_DIAL = ("with an IP address alone", "for clients only")
RIGHT_TO_BE_DIALLED = ("with an IP address alone", "for servers only")
#: How OpenSSL says what is wrong, where `WRONG` has another word.
WORDS = {"unable to get": "self-signed certificate|unable to get|certificate signature failure"}


def careless(protocol: int, pair: Pair | None) -> ssl.SSLContext:
    """Of an end that shows whatever it has, and trusts everybody."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def dial(address: PeerAddress, pair: Pair | None) -> TlsStream:
    stream = await trio.open_tcp_stream(address.host, address.port)
    return TlsStream(stream, careless(ssl.PROTOCOL_TLS_CLIENT, pair), Turns(), server_side=False)


async def test_members_meet(ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path) -> None:
    """With right certificates both ways, and messages arrive."""
    async with (
        member(1, addresses, tmp_path, peer_tls(ca, ca.node(1))) as (one, _),
        member(2, addresses, tmp_path, peer_tls(ca, ca.node(2))) as (two, _),
    ):
        await connected(one, 2)
        await connected(two, 1)
        one.peers.offer(2, [one.heartbeat(2)])
        ((sender, _),) = await two.received(1)
        assert sender == 1


@pytest.mark.parametrize("flaw", WRONG)
async def test_a_wrong_certificate_of_the_node_that_dials(
    ca: Authority,
    other_ca: Authority,
    addresses: dict[int, PeerAddress],
    tmp_path: Path,
    flaw: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told why it is refused, and the log of the dialled node says so."""
    wrong = WRONG[flaw]
    pair = wrong.make(ca, other_ca)
    tls = peer_tls(ca, ca.node(2), peer_crl_file=ca.crl())
    async with member(2, addresses, tmp_path, tls), await dial(addresses[2], pair) as stream:
        side = Side(stream, 1)
        if wrong.as_client is not None:
            with pytest.raises(trio.BrokenResourceError, match="the other end refused TLS: "):
                await side.dial(2)
            words = WORDS.get(wrong.as_client, wrong.as_client)
            await until(lambda: words_in(caplog, f"the other end's certificate is refused: .*({words})"))
        elif flaw in RIGHT_TO_DIAL:
            assert (await side.dial(2)).reason is None
        else:
            reason = (await side.dial(2)).reason
            assert reason is not None
            assert reason.startswith("the certificate of node 1 is for ")
            cure = (
                "give the node one for raftkv://4d/1, or one without raftkv:// for the host in its peer URL"
            )
            assert reason.endswith(f"; {cure}")
            await until(lambda: words_in(caplog, "refused node 1: the certificate of node 1 is for "))


@pytest.mark.parametrize("flaw", WRONG)
async def test_a_wrong_certificate_of_the_node_that_is_dialled(
    ca: Authority, other_ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path, flaw: str
) -> None:
    """It is told nothing but why: the node that dials shows no key, and sends no message."""
    pair = WRONG[flaw].make(ca, other_ca)
    introduced: list[str | None] = []

    async def answer(stream: trio.SocketStream) -> None:
        secured = TlsStream(stream, careless(ssl.PROTOCOL_TLS_SERVER, pair), Turns(), server_side=True)
        async with secured:
            try:
                introduction = await Side(secured, 1).answer()
            except (trio.BrokenResourceError, PeerProtocolError):
                return  # it was refused before it could say anything
            assert introduction.reason is None or introduction.key is None
            introduced.append(introduction.reason)
            await trio.sleep_forever()

    tls = peer_tls(ca, ca.node(2), peer_crl_file=ca.crl())
    async with listening(addresses[1], answer), member(2, addresses, tmp_path, tls) as (two, _):
        if flaw in RIGHT_TO_BE_DIALLED:
            await connected(two, 1)
            return
        is_by_tls = WRONG[flaw].as_server not in (None, "mismatch")
        words = "certificate is refused: " if is_by_tls else "the certificate of node 1 is for "
        await in_trouble(two, 1, words)
        if not is_by_tls:
            await until(lambda: introduced and str(introduced[0]).startswith(words))
        assert not two.peers.outgoing[1].outbox.is_open


async def test_without_a_certificate(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has none is told that it takes one."""
    async with (
        member(2, addresses, tmp_path, peer_tls(ca, ca.node(2))),
        await dial(addresses[2], None) as stream,
    ):
        with pytest.raises(trio.BrokenResourceError, match="it wants a certificate of this end"):
            await Side(stream, 1).dial(2)
        await until(lambda: words_in(caplog, "the other end has shown no certificate"))


@pytest.mark.parametrize("plain", [1, 2])
async def test_a_member_without_tls(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path, plain: int
) -> None:
    """Neither side gets through, the one with TLS says why, and a joiner's query is not answered either."""
    secured = 3 - plain
    async with (
        member(secured, addresses, tmp_path, peer_tls(ca, ca.node(secured))) as (with_tls, _),
        member(plain, addresses, tmp_path, None) as (without, _),
    ):
        await in_trouble(with_tls, plain, "closed the connection in the TLS handshake")
        await in_trouble(without, secured, "the peer closed the connection")
        joiner = Joiner(9, TcpNetwork(), without.peers._world.random, None)
        with pytest.raises((PeerProtocolError, trio.BrokenResourceError)):
            await joiner.ask(addresses[secured])


async def test_a_certificate_for_any_node(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """With an allowed name it may speak for each, and proves none."""
    tls = peer_tls(ca, ca.node(2), peer_cert_allowed_san=("ops.example",))
    pair = ca.issue("ops", [], ["ops.example"])
    async with member(2, addresses, tmp_path, tls), await dial(addresses[2], pair) as stream:
        assert (await Side(stream, 1).dial(2)).reason is None


async def test_the_url_that_counts_is_not_the_one_that_a_node_says(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """The holder of a certificate for another host cannot take a member's seat by announcing that host."""
    pair = ca.issue("elsewhere", [], ["elsewhere.example"])
    tls = peer_tls(ca, ca.node(2))
    async with member(2, addresses, tmp_path, tls), await dial(addresses[2], pair) as stream:
        admission = await Side(stream, 1).dial(2, peer_url="http://elsewhere.example:1")
        assert str(admission.reason).startswith("the certificate of node 1 is for elsewhere.example; ")


@pytest.mark.parametrize(
    ("uris", "hosts", "is_told"),
    [
        (["raftkv://4d/9"], [], True),
        (["raftkv://4d/8"], [], False),
        (["raftkv://4e/9"], [], False),
        ([], ["new.example"], True),
        ([], [], True),
    ],
)
async def test_a_joiner_asks_under_its_own_name(
    ca: Authority,
    addresses: dict[int, PeerAddress],
    tmp_path: Path,
    uris: list[str],
    hosts: list[str],
    is_told: bool,
) -> None:
    """Inside TLS, with a certificate of the CA that is for no other node."""
    pair = ca.issue("joiner", uris, hosts)
    async with (
        member(2, addresses, tmp_path, peer_tls(ca, ca.node(2))),
        await dial(addresses[2], pair) as stream,
    ):
        side = Side(stream, 9)
        admission = await side.dial(2, purpose=Purpose.JOIN, tells_key=False)
        assert (admission.reason is None) is is_told


@pytest.mark.parametrize(
    ("node_id", "cluster_id", "sentence"),
    [(2, CLUSTER_ID, None), (1, CLUSTER_ID, "raftkv://CLUSTER/2"), (2, 78, "raftkv://4d/2")],
)
async def test_a_joiner_checks_who_answers(
    ca: Authority,
    addresses: dict[int, PeerAddress],
    tmp_path: Path,
    node_id: int,
    cluster_id: int,
    sentence: str | None,
) -> None:
    """A member's certificate names it, in the cluster that it tells."""
    tls = peer_tls(ca, ca.node(node_id, cluster_id=cluster_id))
    async with (
        member(2, addresses, tmp_path, tls) as (two, _),
        open_tls_network(peer_tls(ca, ca.node(9))) as network,
    ):
        joiner = Joiner(9, network, two.peers._world.random, None)
        if sentence is None:
            assert (await joiner.ask(addresses[2])).cluster_id == CLUSTER_ID
        else:
            with pytest.raises(PeerProtocolError, match=sentence):
                await joiner.ask(addresses[2])


async def test_silent_connections_keep_no_member_away(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """However many say nothing, or half of a handshake."""
    async with member(1, addresses, tmp_path, peer_tls(ca, ca.node(1))) as (one, _):
        silent = [await trio.open_tcp_stream("127.0.0.1", addresses[1].port) for _ in range(200)]
        for stream in silent[::2]:
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00")
        async with member(2, addresses, tmp_path, peer_tls(ca, ca.node(2))) as (two, _):
            await connected(two, 1)
            await connected(one, 2)
        for stream in silent:
            await stream.aclose()


async def test_members_go_over_to_tls_one_by_one(
    ca: Authority, addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """During a transition a member speaks with those that know TLS, and with those that do not yet."""
    between = {i: peer_tls(ca, ca.node(i), peer_tls_transition=True) for i in (1, 2)}
    only = {i: peer_tls(ca, ca.node(i)) for i in (1, 2)}
    for first, second in (
        (None, None),
        (between[1], None),
        (between[1], between[2]),
        (only[1], between[2]),
        (only[1], only[2]),
    ):
        async with (
            member(1, addresses, tmp_path, first) as (one, _),
            member(2, addresses, tmp_path, second) as (two, _),
        ):
            await connected(one, 2)
            await connected(two, 1)
