"""The network port of a node, with TLS around every connection: mutual, and by certificates that name nodes.

The dialled side makes its part of the handshake when it first receives, in the task that serves the
connection, so the accept loop waits for nobody. Who is at the other end is for `peers/handshake.py` to check,
by the names in the certificate.

During a transition both sides also speak without TLS: the dialled side tells by the first byte, and the
dialling side dials once more without TLS if the other end turns out not to know it.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from raftkv_trio.config import PeerTls
from raftkv_trio.sync import cancelled_when
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.tls.contexts import Files
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.names import Names, NodeCheck
from raftkv_trio.tls.stream import TlsFailed, TlsStream, Turns
from raftkv_trio.world import Listener, Network, TcpNetwork

logger = logging.getLogger(__name__)


class PeerStream(TlsStream):
    """A connection between members.

    Attributes:
        check: decides whether the other end's certificate is for a node.
        ended_because: why this end has ended it, if it has called `end`.
    """

    check: NodeCheck
    ended_because: str | None = None

    def end(self, reason: str) -> None:
        """Close it at once; whoever uses it gets ClosedResourceError with the reason."""
        self.ended_because = reason
        self.close()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As `TlsStream.receive_some`; if this end has ended the connection, the error says why."""
        try:
            return await super().receive_some(max_bytes)
        except trio.ClosedResourceError as error:
            raise trio.ClosedResourceError(self.ended_because or str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `TlsStream.send_all`; if this end has ended the connection, the error says why."""
        try:
            await super().send_all(data)
        except trio.ClosedResourceError as error:
            raise trio.ClosedResourceError(self.ended_because or str(error)) from error

    def names(self) -> Names | None:
        """The names in the other end's certificate; None without TLS, as it may be during a transition.

        Call this when something has been received: then the handshake is done.
        """
        certificate = self.certificate()
        return None if certificate is None else Names.of(certificate)


class TlsNetwork(Network):
    """TCP as `TcpNetwork` has it, with TLS.

    Args:
        credentials: of this node.
        allowed: names of certificates that may speak for any node.
        in_transition: whether others may speak without TLS.
    """

    def __init__(
        self, credentials: Credentials, allowed: Iterable[str] = (), *, in_transition: bool = False
    ) -> None:
        self.credentials = credentials
        self._check = NodeCheck(allowed)
        self._in_transition = in_transition
        self._tcp = TcpNetwork()
        self._turns = Turns()
        self._open: set[PeerStream] = set()
        credentials.changed = self._end_connections

    async def listen(self, host: str, port: int) -> Listener:
        return _TlsListener(self, await self._tcp.listen(host, port))

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream, with its handshake made. Raises as `TcpNetwork.connect`, and TlsFailed."""
        try:
            return await self._connect(host, port)
        except TlsFailed as error:
            if not (self._in_transition and error.is_plain):
                raise
        logger.debug("%s:%d does not speak TLS yet", host, port)
        return await self._tcp.connect(host, port)

    async def _connect(self, host: str, port: int) -> trio.abc.Stream:
        stream = self.wrap(await self._tcp.connect(host, port), dialled_host=host)
        try:
            await stream.handshake()
        except BaseException:
            stream.close()
            raise
        return stream

    def wrap(self, stream: TcpStream, *, dialled_host: str | None = None) -> PeerStream:
        """A connection with TLS, before its handshake.

        Args:
            dialled_host: None if the other end has dialled.
        """
        contexts, is_dialled = self.credentials.contexts, dialled_host is None
        wrapped = PeerStream(
            stream,
            contexts.server if is_dialled else contexts.client,
            self._turns,
            server_side=is_dialled,
            dialled_host=dialled_host,
            may_be_plain=is_dialled and self._in_transition,
            closed=self._open.discard,
        )
        wrapped.check = self._check
        self._open.add(wrapped)
        return wrapped

    def _end_connections(self) -> None:
        """Have all connections made anew, with the new certificates: one of the others may be revoked."""
        for stream in list(self._open):
            stream.end("this node has new certificates, and makes its connections anew")


class _TlsListener(Listener):
    def __init__(self, network: TlsNetwork, listener: Listener) -> None:
        self._network = network
        self._listener = listener

    async def accept(self) -> trio.abc.Stream:
        stream = await self._listener.accept()
        assert isinstance(stream, TcpStream)
        return self._network.wrap(stream)

    async def aclose(self) -> None:
        await self._listener.aclose()


@asynccontextmanager
async def open_tls_network(tls: PeerTls, node_id: int | None = None) -> AsyncIterator[TlsNetwork]:
    """A network for `World` with mutual TLS; inside the block its certificates are kept current.

    The files are looked at every ten seconds. If they have changed and work, the members' connections are
    made anew with them; if they do not work, the log says why, once, and those of before stay in use. Run
    the node inside the block.

    Args:
        node_id: of that node: a certificate that names only others is refused. None: it may name any.

    Raises ConfigError if a file cannot be used at the beginning; the text names its field in `tls`. What the
    block raises leaves in a group. The end of the block, also by cancellation, ends the looking, and closes
    none of the connections: these are the node's.
    """
    credentials = await Credentials.load(Files.of_peers(tls, node_id), "certificates for peers")
    network = TlsNetwork(credentials, tls.peer_cert_allowed_san, in_transition=tls.peer_tls_transition)
    async with cancelled_when(credentials.keep_current):
        yield network
