"""`GET /-/backup`: a snapshot file of all that is acknowledged; the file ends with its hash."""

from http import HTTPStatus
from types import TracebackType

from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.node.node import Node
from raftkv_trio.node.open_snapshot import OpenSnapshot
from raftkv_trio.rest.operators.documents import Response, problem
from raftkv_trio.rest.waiting import wait_readable

DOWNLOAD_PIECE_BYTES = 256 * 1024


def add_backup_route(app: QuartTrio, node: Node, config: RestConfig) -> None:
    """Add the route to `app`."""

    @app.get("/-/backup")
    async def backup() -> Response:
        """Send a snapshot; first a quorum confirms the index that the snapshot must reach."""
        await wait_readable(node, config)
        try:
            snapshot = await node.open_snapshot()
        except OSError as error:
            return problem(500, f"The backup's snapshot cannot be read: {error}")
        body = _SnapshotBody(snapshot)
        return Response(
            body,
            HTTPStatus.OK,
            {"Content-Length": str(body.size_bytes)},
            content_type="application/octet-stream",
        )


class _SnapshotBody(ResponseBody):
    """A snapshot file as a response's content, read one piece at a time as the client takes it."""

    def __init__(self, snapshot: OpenSnapshot) -> None:
        self._snapshot = snapshot
        self._offset = 0
        self.size_bytes = snapshot.size_bytes

    async def __aenter__(self) -> "_SnapshotBody":
        return self

    async def __aexit__(
        self, exc_type: type | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._snapshot.close()

    def __aiter__(self) -> "_SnapshotBody":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._snapshot.read_at(self._offset, DOWNLOAD_PIECE_BYTES)
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        return piece
