"""A connection with TLS: a `TcpStream` whose bytes pass through OpenSSL.

OpenSSL has no socket here. It reads from one buffer and writes to another (`ssl.MemoryBIO`), and this module
moves bytes between these and the system. So the methods that wait for nothing keep their meaning, and the end
that fails a handshake still tells the other one why, in an alert.

- Bytes that are encrypted leave in their order: what the system did not take leaves before anything else.
- The end of the connection is the end of what was received, whether the other end has announced it
  (close_notify) or not: HTTP/1.1 and the frames of the peer protocol both say where their messages end.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from raftkv_trio.tcp_stream import GONE, Peer, TcpStream
from raftkv_trio.tls.names import common_name

#: The most that one call encrypts, or decrypts.
_PIECE_BYTES = 64 * 1024
_RECORD_BYTES = 16 * 1024
_RECEIVE_BYTES = 32 * 1024
#: How a TLS connection begins: the type of a record with a handshake. A frame of a peer begins with 0, since
#: it is far smaller than 16 MiB, and a request of HTTP with a letter.
HANDSHAKE_BYTE = b"\x16"


class TlsFailed(trio.BrokenResourceError):
    """The handshake failed; the text says why, in a few words.

    Attributes:
        is_plain: whether the other end speaks without TLS, or has closed the connection before it said
            anything, as an end does that does not know TLS.
        sent_http: whether the other end has sent a request of HTTP.
    """

    def __init__(self, reason: str, *, is_plain: bool = False, sent_http: bool = False) -> None:
        super().__init__(reason)
        self.is_plain = is_plain
        self.sent_http = sent_http


class Turns:
    """Lets one handshake at a time do its arithmetic, and the other tasks have their turns in between.

    A handshake costs about a millisecond. A thousand that arrive together would else be one long pause, in
    which no heartbeat leaves.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn. Cancellation leaves nothing behind."""
        async with self._lock:
            yield
            await trio.lowlevel.cancel_shielded_checkpoint()  # before the next one has its turn


class TlsStream(TcpStream):
    """A connection with TLS. Its handshake is made by `handshake`, or by the first call that receives.

    A send that has no need to wait has no checkpoint. If less than all was sent, the next thing that is sent
    must be the rest.

    Args:
        stream: takes over its socket.
        context: of OpenSSL; it may be in use by many connections.
        turns: shared by all connections whose handshakes are to take turns.
        server_side: whether the other end has dialled.
        dialled_host: the host that this end has dialled, for the other end to choose a certificate by.
        may_be_plain: whether the other end, which has dialled, may also speak without TLS.
        closed: called when this end closes it, perhaps more than once.

    Attributes:
        dialled_host: as given.
        is_plain: whether there is no TLS on this connection; known after the handshake.
    """

    def __init__(
        self,
        stream: trio.SocketStream | TcpStream,
        context: ssl.SSLContext,
        turns: Turns,
        *,
        server_side: bool,
        dialled_host: str | None = None,
        may_be_plain: bool = False,
        closed: Callable[["TlsStream"], None] = lambda stream: None,
    ) -> None:
        super().__init__(stream)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, dialled_host)
        self._turns = turns
        self._is_dialled = server_side
        self._may_be_plain = may_be_plain
        self._closed = closed
        self.dialled_host = dialled_host
        self.is_plain = False
        self._is_open = False  # the handshake is done
        self._has_heard = False
        self._unsent = b""  # encrypted
        self._encrypting = 0  # bytes of the caller that are in `_unsent` and do not count as sent yet
        self._sends_no_more = False

    # ------------------------------------------------------------ the handshake

    async def handshake(self) -> None:
        """Make the handshake, unless it was made before.

        Raises TlsFailed if it fails, which the other end is told, and BrokenResourceError if the connection
        breaks. There is no deadline. After an error or a cancellation the connection can only be closed.
        """
        if self._is_open:
            return
        if self._may_be_plain and await self._first_byte() not in (HANDSHAKE_BYTE, b""):
            self.is_plain = self._is_open = True
            return
        if self._is_dialled:  # the other end begins; one that says nothing takes no turn from others
            await self._receive_encrypted()
        while True:
            async with self._turns.turn():
                is_done = self._step()
            await self._flush()
            if is_done:
                self._is_open = True
                return
            await self._receive_encrypted()

    async def _first_byte(self) -> bytes:
        try:
            return await self.socket.recv(1, trio.socket.MSG_PEEK)
        except OSError as error:
            raise trio.BrokenResourceError(f"the connection is broken: {error}") from error

    def _step(self) -> bool:
        """Go on with the handshake as far as possible; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._flush_now()  # the alert
            raise failure_of(error) from error
        return True

    async def _receive_encrypted(self) -> None:
        try:
            while (data := super().receive_now(_RECEIVE_BYTES)) is None:
                await trio.lowlevel.wait_readable(self.socket)
        except trio.BrokenResourceError:  # it has closed before it had read all
            data = b""
        if not data:
            reason = "the other end closed the connection in the TLS handshake"
            raise TlsFailed(reason, is_plain=not self._has_heard)
        self._has_heard = True
        self._incoming.write(data)

    def certificate(self) -> Mapping[str, object] | None:
        """What the other end's certificate says, as Python's `ssl` has it; None if it has shown none.

        It was verified if this end's context verifies.
        """
        return None if self.is_plain or not self._is_open else self._tls.getpeercert() or None

    # ------------------------------------------------------------ receiving

    def peer(self) -> Peer:
        return super().peer()._replace(name=common_name(self.certificate() or {}))

    def receive_now(self, max_bytes: int) -> bytes | None:
        """As `TcpStream.receive_now`. After `send_eof`, what arrives is not decrypted any more.

        Raises BrokenResourceError also if the other end breaks the rules of TLS, or says with an alert why it
        closes the connection.
        """
        if self.is_plain or self._sends_no_more:
            return super().receive_now(max_bytes)
        while True:
            if self._incoming.pending or self._tls.pending():
                data = self._decrypted(max_bytes)
                if data is not None:
                    return data
            received = super().receive_now(_RECEIVE_BYTES)
            if not received:
                return received
            self._incoming.write(received)

    def _decrypted(self, max_bytes: int) -> bytes | None:
        """What was decrypted of the bytes that are here, none at the end; None if more must arrive first."""
        parts: list[bytes] = []
        left = min(max_bytes, _PIECE_BYTES)
        try:
            while left:
                part = self._tls.read(min(left, _RECORD_BYTES))
                if not part:
                    break
                parts.append(part)
                left -= len(part)
                if not (self._incoming.pending or self._tls.pending()):
                    break
        except ssl.SSLWantReadError:
            if not parts:
                return None
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            if not parts:  # else it is raised at the next call
                raise failure_of(error) from error
        finally:
            if self._outgoing.pending:  # the other end has new keys, and is told that this one has them too
                self._flush_now()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As `TcpStream.receive_some`; makes the handshake first, which raises TlsFailed."""
        if not self._is_open:
            await self.handshake()
        return await super().receive_some(max_bytes)

    # ------------------------------------------------------------ sending

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as the system takes at once, perhaps nothing; returns how many bytes those were."""
        if self.is_plain:
            return super().send_now(data)
        view, sent = memoryview(data), 0
        while self._flush_now():
            sent += self._encrypting
            self._encrypting = 0
            if sent >= len(view):
                break
            try:
                self._encrypting = self._tls.write(view[sent : sent + _PIECE_BYTES])
            except ssl.SSLError as error:
                raise failure_of(error) from error
        return sent

    def send_without_tls(self, data: bytes) -> None:
        """Answer an end that does not speak TLS, after the handshake has failed.

        What does not leave at once is lost. Raises BrokenResourceError.
        """
        super().send_now(data)

    def _flush_now(self) -> bool:
        """Send what is encrypted as far as the system takes it at once; whether that was all."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            sent = super().send_now(self._unsent)
            if not sent:
                return False
            self._unsent = self._unsent[sent:]
        return True

    async def _flush(self) -> None:
        while not self._flush_now():
            await trio.lowlevel.wait_writable(self.socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `TcpStream.send_all`; makes the handshake first, which raises TlsFailed."""
        if not self._is_open:
            await self.handshake()
        await super().send_all(data)

    async def send_eof(self) -> None:
        """Tell the other end that nothing more comes.

        What it still sends is received as it comes, encrypted.
        """
        if not self.is_plain:
            self._announce_end()
            await self._flush()
        await super().send_eof()

    def _announce_end(self) -> None:
        if self._sends_no_more or not self._is_open or self.is_plain:
            return
        self._sends_no_more = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the other end's announcement, which nobody needs

    def close(self) -> None:
        """Close it at once; the other end is told that this is the end, if the system takes that at once."""
        try:
            self._announce_end()
            self._flush_now()
        except GONE:
            pass  # whom there is nothing to tell
        super().close()
        self._closed(self)


def failure_of(error: ssl.SSLError) -> TlsFailed:
    """What an error of OpenSSL means, in words for a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailed(f"the other end's certificate is refused: {error.verify_message}")
    reason = error.reason or ""
    if reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return TlsFailed("a request of HTTP came without TLS", is_plain=True, sent_http=True)
    if reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return TlsFailed("the other end does not speak TLS", is_plain=True)
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return TlsFailed("the other end has shown no certificate")
    if "ALERT" in reason:
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return TlsFailed(f"the other end refused TLS: {_ALERTS.get(alert, alert)}")
    return TlsFailed(f"TLS failed: {(reason or str(error)).replace('_', ' ').lower()}")


#: What the alerts mean that say something about this end's certificate (RFC 8446, section 6.2).
_ALERTS = {
    "unknown ca": "it does not trust the CA of this end's certificate",
    "certificate expired": "this end's certificate has expired, by its clock",
    "bad certificate": "it does not accept this end's certificate",
    "certificate revoked": "this end's certificate was revoked",
    "certificate unknown": "it does not accept this end's certificate",
    "unsupported certificate": "this end's certificate is not for this use",
    "certificate required": "it wants a certificate of this end",
    "handshake failure": "the two have no version or cipher in common, or it wants a certificate",
    "protocol version": "it speaks another version of TLS",
}
