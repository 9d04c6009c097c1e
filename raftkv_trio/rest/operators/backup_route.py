"""`GET /-/backup`: a snapshot file of all that is acknowledged; the file ends with its hash."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from types import TracebackType

import trio
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from raftkv_trio.access.waiting import wait_readable
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import Overloaded
from raftkv_trio.http import may_be_of_another_site
from raftkv_trio.node.node import Node
from raftkv_trio.node.open_snapshot import OpenSnapshot
from raftkv_trio.rest.operators.documents import Response, head_fields, problem

DOWNLOAD_PIECE_BYTES = 256 * 1024
#: Each backup keeps a snapshot on the disk and reads it, beside the node's own work on the disk.
MAX_BACKUPS = 4


def add_backup_route(app: QuartTrio, node: Node, config: RestConfig) -> None:
    """Add the route to `app`; it sends `MAX_BACKUPS` backups at once, and refuses more with 429."""
    places = trio.Semaphore(MAX_BACKUPS)

    @app.get("/-/backup")
    async def backup() -> Response:
        """Send a snapshot; first a quorum confirms the index that the snapshot must reach."""
        # A page could not read it, but take all places, and have a snapshot made for each.
        if may_be_of_another_site(head_fields()):
            return problem(
                HTTPStatus.FORBIDDEN,
                "A page of another site may have sent this; take the backup with `raftkv-trio backup`",
            )
        with ExitStack() as held:
            held.enter_context(_one_of(places))
            await wait_readable(node, config)
            try:
                snapshot = held.enter_context(await node.open_snapshot())
            except OSError as error:
                return problem(500, f"The backup's snapshot cannot be read: {error}")
            body = _SnapshotBody(snapshot, held.pop_all())
        return Response(
            body,
            HTTPStatus.OK,
            {"Content-Length": str(body.size_bytes)},
            content_type="application/octet-stream",
        )


@contextmanager
def _one_of(places: trio.Semaphore) -> Iterator[None]:
    """Take a place, and give it back at the end of the context. Raises Overloaded if none is free."""
    try:
        places.acquire_nowait()
    except trio.WouldBlock:
        raise Overloaded(
            f"This node sends {MAX_BACKUPS} backups already, its limit; ask another node, or retry later"
        ) from None
    try:
        yield
    finally:
        places.release()


class _SnapshotBody(ResponseBody):
    """A snapshot file as a response's content, read one piece at a time as the client takes it.

    Args:
        held: closed when the response ends, however it ends.
    """

    def __init__(self, snapshot: OpenSnapshot, held: ExitStack) -> None:
        self._snapshot = snapshot
        self._held = held
        self._offset = 0
        self.size_bytes = snapshot.size_bytes

    async def __aenter__(self) -> "_SnapshotBody":
        return self

    async def __aexit__(
        self, exc_type: type | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._held.close()

    def __aiter__(self) -> "_SnapshotBody":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._snapshot.read_at(self._offset, DOWNLOAD_PIECE_BYTES)
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        return piece
