"""`TlsStream` is a `TcpStream` whose bytes are encrypted: what it is told arrives, and every wait ends."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from raftkv_trio.tcp_stream import Peer, TcpStream
from raftkv_trio.tls.contexts import Contexts, Files, make_contexts
from raftkv_trio.tls.stream import TlsFailed, TlsStream, Turns
from tests.tls.certificates import Authority
from tests.tls.configs import client_tls, peer_tls

PATIENCE_S = 60.0


@pytest.fixture
def contexts(ca: Authority) -> Contexts:
    return make_contexts(Files.of_peers(peer_tls(ca, ca.node(1))))


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a TCP connection: that which has dialled first."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialled = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return dialled, await listener.accept()


@asynccontextmanager
async def connected(contexts: Contexts) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    """Both ends of a connection, after the handshake."""
    client_tcp, server_tcp = await tcp_pair()
    turns = Turns()
    client = TlsStream(client_tcp, contexts.client, turns, server_side=False)
    server = TlsStream(server_tcp, contexts.server, turns, server_side=True)
    with trio.fail_after(PATIENCE_S):
        async with client, server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.handshake)
                nursery.start_soon(server.handshake)
            yield client, server


async def receive_all(stream: TcpStream, max_bytes: int | None = None) -> bytes:
    data = bytearray()
    while part := await stream.receive_some(max_bytes):
        data += part
    return bytes(data)


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 5_000_000])
@pytest.mark.parametrize("max_bytes", [None, 1000, 256 * 1024])
async def test_bytes_arrive_both_ways_at_once(contexts: Contexts, size: int, max_bytes: int | None) -> None:
    """However many they are, and however few are asked for at a time."""
    there, back = os.urandom(size), os.urandom(size)
    async with connected(contexts) as (client, server):
        received: dict[TlsStream, bytes] = {}

        async def receive(stream: TlsStream) -> None:
            data = bytearray()
            while len(data) < size:
                data += await stream.receive_some(max_bytes)
            received[stream] = bytes(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, there)
            nursery.start_soon(server.send_all, back)
            nursery.start_soon(receive, client)
            nursery.start_soon(receive, server)
        assert received == {server: there, client: back}


async def test_what_is_sent_without_a_wait_counts_when_it_has_left(contexts: Contexts) -> None:
    """If the system takes a part, the rest is sent next, and nothing comes twice or is missing."""
    data = os.urandom(8_000_000)
    async with connected(contexts) as (client, server), trio.open_nursery() as nursery:
        sent = client.send_now(data)
        assert 0 < sent < len(data)
        assert client.send_now(data[sent:]) == 0
        arrived = bytearray()

        async def receive() -> None:
            while len(arrived) < len(data):
                arrived.extend(await server.receive_some())

        nursery.start_soon(receive)
        await client.send_all(memoryview(data)[sent:])
        nursery.start_soon(client.send_eof)
    assert arrived == data


async def test_who_is_at_the_other_end(ca: Authority) -> None:
    """By name only if this end has verified the certificate: else anybody could show one of any name."""
    pair = ca.client("alice")
    verifying = client_tls(ca.node(1), client_cert_auth=True, trusted_ca_file=ca.certificate)
    for tls, name in ((verifying, "alice"), (client_tls(ca.node(1)), None)):
        contexts = make_contexts(Files.of_clients(tls))
        contexts.client.load_cert_chain(pair.certificate, pair.key)
        async with connected(contexts) as (client, server):
            assert server.peer() == Peer("127.0.0.1", name)
    assert client.peer() == Peer()  # closed
    dialled, accepted = await tcp_pair()
    async with dialled, accepted:
        assert TcpStream(dialled).peer() == Peer("127.0.0.1")


async def test_the_end_is_told(contexts: Contexts) -> None:
    """After the last bytes; what the other end still sends is received as it comes."""
    async with connected(contexts) as (client, server):
        await client.send_all(b"the last")
        await client.send_eof()
        assert await receive_all(server) == b"the last"
        await server.send_all(b"still here")
        server.close()
        assert len(await receive_all(client)) > len(b"still here")  # encrypted


async def test_an_end_without_announcement_is_an_end(contexts: Contexts) -> None:
    """A peer that crashes announces nothing."""
    async with connected(contexts) as (client, server):
        await client.send_all(b"the last")
        client.socket.shutdown(trio.socket.SHUT_WR)
        assert await receive_all(server) == b"the last"


async def test_a_close_wakes_whoever_waits(contexts: Contexts) -> None:
    """Also one that waits for the handshake, which never comes."""
    async with connected(contexts) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(raises_closed, client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        client.close()
    tcp, other = await tcp_pair()
    waiting = TlsStream(tcp, contexts.server, Turns(), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises_closed, waiting.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        waiting.close()
    other.socket.close()


async def raises_closed(call: object) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await call()  # type: ignore[operator]


async def test_a_cancelled_receive_loses_nothing(contexts: Contexts) -> None:
    """Bytes of half a record stay where they are."""
    data = os.urandom(100_000)
    async with connected(contexts) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, data)
        arrived = bytearray()
        while len(arrived) < len(data):
            with trio.move_on_after(0.0001):
                arrived += await server.receive_some(777)
        assert arrived == data


# ---------------------------------------------------------------- handshakes that fail


async def failing(client: TlsStream, server: TlsStream) -> dict[str, str]:
    """What each end says about a connection that must not come about."""
    said: dict[str, str] = {}

    async def use(name: str, stream: TlsStream) -> None:
        try:
            async with stream:
                await stream.handshake()
                await stream.receive_some()  # in TLS 1.3 the dialling side is done before it is refused
        except trio.BrokenResourceError as error:
            said[name] = str(error)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, "client", client)
            nursery.start_soon(use, "server", server)
    return said


async def test_each_end_says_why(ca: Authority, other_ca: Authority, contexts: Contexts) -> None:
    """The one that refuses, and by its alert the other one."""
    foreign = make_contexts(Files.of_peers(peer_tls(other_ca, other_ca.node(1))))
    client_tcp, server_tcp = await tcp_pair()
    client = TlsStream(client_tcp, contexts.client, Turns(), server_side=False)
    said = await failing(client, TlsStream(server_tcp, foreign.server, Turns(), server_side=True))
    assert said["client"].startswith("the other end's certificate is refused: self-signed certificate")
    assert said["server"] == "the other end refused TLS: it does not trust the CA of this end's certificate"


async def test_without_a_certificate(contexts: Contexts) -> None:
    """The server says what is missing, and so does the client."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    client_tcp, server_tcp = await tcp_pair()
    client = TlsStream(client_tcp, bare, Turns(), server_side=False)
    said = await failing(client, TlsStream(server_tcp, contexts.server, Turns(), server_side=True))
    assert said == {
        "server": "the other end has shown no certificate",
        "client": "the other end refused TLS: it wants a certificate of this end",
    }


async def test_an_older_version(contexts: Contexts) -> None:
    """Members speak 1.3 only."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client_tcp, server_tcp = await tcp_pair()
    client = TlsStream(client_tcp, old, Turns(), server_side=False)
    said = await failing(client, TlsStream(server_tcp, contexts.server, Turns(), server_side=True))
    assert said["client"] == "the other end refused TLS: it speaks another version of TLS"


@pytest.mark.parametrize(
    ("sends", "sent_http"), [(b"GET / HTTP/1.1\r\n\r\n", True), (b"\x00\x00\x00\x10hello, world....", False)]
)
async def test_an_end_that_does_not_know_tls(contexts: Contexts, sends: bytes, sent_http: bool) -> None:
    """It is known as one, so that it can be answered, or dialled once more without TLS."""
    plain, tcp = await tcp_pair()
    server = TlsStream(tcp, contexts.server, Turns(), server_side=True)
    async with plain, server:
        await plain.send_all(sends)
        with pytest.raises(TlsFailed) as failed:
            await server.handshake()
    assert failed.value.is_plain
    assert failed.value.sent_http is sent_http


async def test_an_end_that_closes_at_once(contexts: Contexts) -> None:
    """So does one that does not know TLS, and no other."""
    plain, tcp = await tcp_pair()
    client = TlsStream(tcp, contexts.client, Turns(), server_side=False)
    async with client:
        await plain.aclose()
        with pytest.raises(TlsFailed, match="closed the connection") as failed:
            await client.handshake()
    assert failed.value.is_plain


@pytest.mark.parametrize(("first", "is_plain"), [(b"\x00\x00\x00\x05", True), (None, False)])
async def test_the_first_byte_tells(contexts: Contexts, first: bytes | None, is_plain: bool) -> None:
    """During a transition both kinds come to the same port, and nothing of what was sent is lost."""
    dialled, tcp = await tcp_pair()
    server = TlsStream(tcp, contexts.server, Turns(), server_side=True, may_be_plain=True)
    with trio.fail_after(PATIENCE_S):
        async with dialled, server, trio.open_nursery() as nursery:
            if first is not None:
                await dialled.send_all(first)
                assert await server.receive_some() == first
                await server.send_all(b"answer")
                assert await dialled.receive_some() == b"answer"
            else:
                client = TlsStream(dialled, contexts.client, Turns(), server_side=False)
                nursery.start_soon(client.send_all, b"hello")
                assert await server.receive_some() == b"hello"
            assert server.is_plain is is_plain
            assert (server.certificate() is None) is is_plain


async def test_bytes_one_by_one(contexts: Contexts) -> None:
    """A connection on which the network, or an attacker, dribbles."""
    ends = [await tcp_pair(), await tcp_pair()]
    client = TlsStream(ends[0][0], contexts.client, Turns(), server_side=False)
    server = TlsStream(ends[1][1], contexts.server, Turns(), server_side=True)

    async def dribble(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            for byte in data:
                await sink.send_all(bytes([byte]))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, client, server:
            nursery.start_soon(dribble, ends[0][1], ends[1][0])
            nursery.start_soon(dribble, ends[1][0], ends[0][1])
            nursery.start_soon(client.send_all, b"slowly")
            assert await server.receive_some() == b"slowly"
            nursery.cancel_scope.cancel()
    for pair in ends:
        for end in pair:
            end.socket.close()


async def test_handshakes_let_others_have_their_turn(ca: Authority) -> None:
    """Between two handshakes every other task that is ready runs: 200 of them are no long pause."""
    files = Files.of_clients(client_tls(ca.node(1)))
    contexts, turns = make_contexts(files), Turns()
    steps = 0

    async def count_turns() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async def serve(stream: trio.SocketStream) -> None:
        await TlsStream(stream, contexts.server, turns, server_side=True).handshake()

    count = 200
    hello = await first_flight(contexts)
    async with trio.open_nursery() as counting:
        pairs = [await tcp_pair() for _ in range(count)]
        for client, _ in pairs:
            await client.send_all(hello)
        counting.start_soon(count_turns)
        async with trio.open_nursery() as serving:
            before = steps
            for _, server in pairs:
                serving.start_soon(serve, server)
            for client, _ in pairs:  # the server's flight has come: its part of the arithmetic is done
                await client.receive_some()
            assert steps - before >= count
            serving.cancel_scope.cancel()
        counting.cancel_scope.cancel()
    for pair in pairs:
        for end in pair:
            end.socket.close()


class CountedTurns(Turns):
    """Counts the turns that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self.taken += 1
        async with super().turn():
            yield


async def test_who_says_nothing_takes_no_turn(contexts: Contexts) -> None:
    """A server has two turns for a handshake, and none while the client is silent."""
    turns, (client, server) = CountedTurns(), await tcp_pair()
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(TlsStream(server, contexts.server, turns, server_side=True).handshake)
        await trio.testing.wait_all_tasks_blocked()
        assert turns.taken == 0
        await TlsStream(client, contexts.client, Turns(), server_side=False).handshake()
    assert turns.taken == 2


async def first_flight(contexts: Contexts) -> bytes:
    """A ClientHello."""
    to_server = ssl.MemoryBIO()
    client = contexts.client.wrap_bio(ssl.MemoryBIO(), to_server, server_side=False)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return to_server.read()
