"""`GET /-/backup`: the bytes of a snapshot file of all that is acknowledged, its hash at the end."""

from http import HTTPStatus
from types import TracebackType

import trio
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import NoLeader, StorageError
from raftkv_trio.node.node import Node
from raftkv_trio.rest.operators.documents import Response, problem
from raftkv_trio.storage import DiskFile
from raftkv_trio.world import Worker

PIECE_BYTES = 256 * 1024


def add_backup_route(app: QuartTrio, node: Node, config: RestConfig) -> None:
    """Give `app` the route."""

    @app.get("/-/backup")
    async def backup() -> Response:
        """A snapshot, taken once a quorum has confirmed how far it must reach."""
        with trio.move_on_after(config.request_timeout_s) as confirming:
            try:
                await node.wait_readable()
            except NoLeader as error:  # we stop
                return problem(503, str(error))
        if confirming.cancelled_caught:
            return problem(503, node.status().health or "No quorum confirmed the backup's index in time")
        try:
            file = await node.open_snapshot()
        except (StorageError, OSError) as error:
            return problem(507, f"The backup's snapshot could not be taken: {error}")
        body = _FileBody(file, node.bulk_worker)
        return Response(
            body,
            HTTPStatus.OK,
            {"Content-Length": str(body.size_bytes)},
            content_type="application/octet-stream",
        )


class _FileBody(ResponseBody):
    """An open file as a response's content, read a piece at a time as the client takes it."""

    def __init__(self, file: DiskFile, worker: Worker) -> None:
        self._file = file
        self._worker = worker
        self._offset = 0
        self.size_bytes = file.size()

    async def __aenter__(self) -> "_FileBody":
        return self

    async def __aexit__(
        self, exc_type: type | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._file.close()

    def __aiter__(self) -> "_FileBody":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._worker.run(self._file.read_at, self._offset, PIECE_BYTES)
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        return piece
