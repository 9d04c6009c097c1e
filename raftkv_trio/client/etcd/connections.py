"""The connection that a client's calls are made on, and the next one when it fails.

- All calls of a client share one connection. It is made when the first call needs it, to the first endpoint
  that answers, in the order in which they were given; after a failure, from the next one on.
- A new connection is asked for its member's status. A member that has a leader is preferred to one that has
  none, or is a learner; such a one is taken if there is no other, since it answers some calls.
- A connection is left when it ends, when its member says that it is not available, and when it says nothing
  while calls wait: then it is asked with a PING first. A connection that is left ends with its last call.
- While no endpoint answers, they are tried in rounds, with growing pauses, and only while calls wait.
"""

import random
import ssl
from collections.abc import Sequence

import trio
from google.protobuf.message import DecodeError

from raftkv_trio.addresses import ClientAddress
from raftkv_trio.client.etcd.messages import PUT, STATUS
from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc import CallLost, CallNotExecuted, Channel, RpcError
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.tcp_stream import GONE, TcpStream
from raftkv_trio.tls.stream import TlsStream, Turns
from raftkv_trio.world import TcpNetwork, reason_of

#: How long an endpoint may take to connect and to tell its status.
DIAL_S = 2.0
#: After so long without a word, while calls wait, the server is asked; and so long it may take to answer.
SILENCE_S = 3.0
ANSWER_S = 3.0
#: The least time between two PINGs. etcd ends connections with more than one in 5 s.
PING_INTERVAL_S = 6.0
_LOOK_S = 1.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
KEY_FIELD = "idempotency-key"
#: Of a put that no server executes: it has no key, and its idempotency key is too long. See `knows_keys`.
_PROBE = {KEY_FIELD: 300 * "p"}


class Connection:
    """A connection to one endpoint.

    Attributes:
        address: of the endpoint.
        channel: for calls.
        is_left: whether no more calls are to be made on it.
        status: what the member said about itself at the beginning.
        knows_keys: whether the server executes writes of the same idempotency key once. raftkv-trio does,
            and it says so by refusing a key that is too long, which etcd does not even look at.
    """

    def __init__(self, address: ClientAddress, channel: Channel) -> None:
        self.address = address
        self.channel = channel
        self.is_left = False
        self.status = rpc_pb2.StatusResponse()
        self.knows_keys = False
        self._scope = trio.CancelScope()

    @property
    def is_usable(self) -> bool:
        """Whether calls may be made on it."""
        return not self.is_left and self.channel.takes_calls

    @property
    def serves_all(self) -> bool:
        """Whether the member had a leader at the beginning, and was no learner."""
        return bool(self.status.leader) and not self.status.isLearner

    @property
    def shortcoming(self) -> str:
        """Why the member does not serve all calls."""
        return "it is a learner" if self.status.isLearner else "it knows no leader"

    async def run(self) -> None:
        """Serve the calls until the connection ends; it is closed then, also by cancellation."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                await self.channel.run()
                nursery.cancel_scope.cancel()

    def end(self) -> None:
        """Close it; calls in progress are lost."""
        self.is_left = True
        self._scope.cancel()

    async def _watch(self) -> None:
        """End it when the server is silent, or when it was left and has no calls."""
        channel, heard, heard_at, pinged_at = self.channel, -1, 0.0, -PING_INTERVAL_S
        is_asked = False
        while True:
            now = trio.current_time()
            if heard != channel.heard or not channel.calls:
                heard, heard_at, is_asked = channel.heard, now, False
            if (self.is_left and not channel.calls) or (is_asked and now >= pinged_at + ANSWER_S):
                self.end()
            elif not is_asked and now >= heard_at + SILENCE_S and now >= pinged_at + PING_INTERVAL_S:
                channel.ping()
                is_asked, pinged_at = True, now
            await trio.sleep(_LOOK_S)

    async def introduce(self) -> None:
        """Ask the member who it is. Raises what `Channel.call` raises."""
        self.status = rpc_pb2.StatusResponse.FromString(await self.channel.call(STATUS.path, b""))
        try:
            await self.channel.call(PUT.path, b"", _PROBE)
        except RpcError as error:
            self.knows_keys = KEY_FIELD in error.text.lower()


class Connections:
    """Connections to endpoints, one at a time.

    Args:
        addresses: of the endpoints.
        tls: for those with TLS; None if there are none.
        nursery: in which connections run.

    Attributes:
        failures: why each endpoint failed the last time, or does not serve all calls, by its URL.
    """

    def __init__(
        self, addresses: Sequence[ClientAddress], tls: ssl.SSLContext | None, nursery: trio.Nursery
    ) -> None:
        self.failures: dict[str, str] = {}
        self._addresses = addresses
        self._tls = tls
        self._nursery = nursery
        self._network = TcpNetwork()
        self._turns = Turns()
        self._next = 0
        self._present: Connection | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_dialling = False
        self._is_closed = False

    def close(self) -> None:
        """Make no more connections. Whoever waits for one gets ClosedResourceError."""
        self._is_closed = True
        self._waiting.unpark_all()

    def check_open(self) -> None:
        """Raise ClosedResourceError after `close`."""
        if self._is_closed:
            raise trio.ClosedResourceError("the client is closed")

    async def get(self) -> Connection:
        """The connection to make a call on. Waits until there is one; has no checkpoint if there is.

        Raises ClosedResourceError after `close`. Cancellation leaves nothing behind.
        """
        while True:
            self.check_open()
            present = self._present
            if present is not None and present.is_usable:
                return present
            if present is not None:
                self._lose(present)
            if not self._is_dialling:
                self._is_dialling = True
                self._nursery.start_soon(self._dial)
            await self._waiting.park()

    def leave(self, connection: Connection, reason: str) -> None:
        """Make the next calls on another connection, if there are several endpoints."""
        self.failures[connection.address.url] = reason
        if len(self._addresses) > 1:
            connection.is_left = True

    def _lose(self, connection: Connection) -> None:
        self._present = None
        self._next = (self._addresses.index(connection.address) + 1) % len(self._addresses)

    # ------------------------------------------------------------ dialling

    async def _dial(self) -> None:
        """Make a connection, while somebody waits for one."""
        pause_s = _FIRST_PAUSE_S
        try:
            while self._waiting:
                self._present = await self._dial_round()
                if self._present is not None:
                    return
                await trio.sleep(pause_s * random.uniform(0.5, 1))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._is_dialling = False
            self._waiting.unpark_all()

    async def _dial_round(self) -> Connection | None:
        """Try each endpoint once; the first that serves all calls, or else the first that answers."""
        second_best: Connection | None = None
        for offset in range(len(self._addresses)):
            connection = await self._try(self._addresses[(self._next + offset) % len(self._addresses)])
            if connection is None:
                continue
            if connection.serves_all:
                if second_best is not None:
                    second_best.end()
                return connection
            if second_best is None:
                second_best = connection
            else:
                connection.end()
        return second_best

    async def _try(self, address: ClientAddress) -> Connection | None:
        """A connection to an endpoint; None if it does not answer; `failures` says why it is not good."""
        connection: Connection | None = None
        try:
            with trio.fail_after(DIAL_S):
                stream = await self._connect(address)
                scheme = "https" if address.is_tls else "http"
                connection = Connection(address, Channel(stream, address.authority, scheme=scheme))
                self._nursery.start_soon(connection.run)
                await connection.introduce()
                if connection.serves_all:
                    self.failures.pop(address.url, None)
                else:
                    self.failures[address.url] = connection.shortcoming
                return connection
        except (OSError, trio.TooSlowError, *GONE, RpcError, CallLost, CallNotExecuted, DecodeError) as error:
            self.failures[address.url] = printable(reason_of(error))
            if connection is not None:
                connection.end()
            return None
        except BaseException:
            if connection is not None:
                connection.end()
            raise

    async def _connect(self, address: ClientAddress) -> TcpStream:
        stream = await self._network.connect(address.host, address.port)
        if self._tls is None or not address.is_tls:
            return stream
        wrapped = TlsStream(stream, self._tls, self._turns, server_side=False, dialled_host=address.host)
        try:
            await wrapped.handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped
