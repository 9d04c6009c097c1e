"""The content of a response that is sent while it is made: in chunks (RFC 9112, section 7.1).

For a client that speaks HTTP/1.0 the end of the connection is the end of the content.
"""

from typing import Protocol

from raftkv_trio.http.messages import Request, StreamedResponse, encode_head

_LAST_CHUNK = b"0\r\n\r\n"


class Carrier(Protocol):
    """The connection that a request has come on."""

    def closes_after(self, request: Request) -> bool:
        """Whether a response that begins now is the last one on the connection."""
        ...

    async def wait_turn(self, status: int) -> None:
        """Return when a response of this status may begin."""
        ...

    async def send_held(self) -> None:
        """Send the answers to earlier requests that were held back."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes; cancelled if the client is gone."""
        ...


class StreamedContent:
    """One response while it is sent.

    Attributes:
        has_begun: whether its head has been sent, or is about to be.
        closes: whether the connection closes after it.
    """

    def __init__(self, request: Request, response: StreamedResponse, connection: Carrier) -> None:
        self._request = request
        self._response = response
        self._connection = connection
        self._is_chunked = request.version == "1.1"
        self.has_begun = False
        self.closes = False

    async def send(self, part: bytes) -> None:
        """Send a part, the first one after the head. A cancellation may leave a part of it sent."""
        data = b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked and part else part
        await self._send(data)

    async def end(self) -> None:
        """Send what says that there is no more, and the head if nothing has been sent."""
        await self._send(_LAST_CHUNK if self._is_chunked else b"")

    async def _send(self, data: bytes) -> None:
        if not self.has_begun:
            await self._connection.wait_turn(self._response.status)
            await self._connection.send_held()
            data = self._begun() + data
        await self._connection.send(data)

    def _begun(self) -> bytes:
        self.has_begun = True
        self._request.awaits_100 = False  # an interim response would come too late
        fields = dict(self._response.fields)
        if self._is_chunked:
            fields["Transfer-Encoding"] = "chunked"
        self.closes = self._connection.closes_after(self._request)  # always with HTTP/1.0
        return encode_head(self._response.status, fields.items(), closes=self.closes)
