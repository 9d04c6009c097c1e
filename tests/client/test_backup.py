"""A backup whose temporary file is taken away while the node answers."""

import os
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.backup import fetch_backup

BODY = b"what a node has sent"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s"


def put_link_in_place(directory: Path, kept: Path) -> None:
    (temporary,) = directory.glob("backup.*.part")
    temporary.unlink()
    temporary.symlink_to(kept)


async def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    """What it points at stays as it is, and there is no backup."""
    kept = tmp_path / "kept"
    kept.write_bytes(b"mine")

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        put_link_in_place(tmp_path, kept)
        await stream.send_all(ANSWER % (len(BODY), BODY))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        node = PeerAddress(*listener.socket.getsockname()[:2])
        with pytest.raises(OSError, match="symbolic links"):
            await fetch_backup([node], tmp_path / "backup", timeout_s=60, force=False, shows_progress=False)
        nursery.cancel_scope.cancel()
    assert kept.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["kept"]
