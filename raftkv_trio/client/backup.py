"""`raftkv-trio backup`: the state of a running cluster in one file, verified to its end."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from select import PIPE_BUF
from stat import S_ISFIFO, S_ISSOCK
from tempfile import TemporaryDirectory

import trio
from click.termui import progressbar

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.client.rest import NoAnswer, NobodyDid, RequestFailed, RestClient, open_rest_client
from raftkv_trio.errors import ConfigError, CorruptLog, RaftKVError
from raftkv_trio.storage import OsDisk, VerifiedSnapshot, verify_snapshot
from raftkv_trio.tls.clients import Trust
from raftkv_trio.user_files import new_file, open_no_link

#: As a file's name: standard output.
STANDARD_STREAM = Path("-")
COPY_PIECE_BYTES = 256 * 1024


_OpensRest = Callable[[], AbstractAsyncContextManager[RestClient]]


async def fetch_backup(
    endpoints: Sequence[PeerAddress],
    file: Path,
    *,
    timeout_s: float,
    force: bool,
    shows_progress: bool,
    trust: Trust | None = None,
    login: Login | None = None,
) -> VerifiedSnapshot:
    """Write a backup of the cluster that the endpoints belong to; the file `-` is standard output.

    The backup is written to a temporary file, which gets the name `file` when it is verified and durable. So
    a file of that name is replaced by a whole backup or not at all. Nothing is written to standard output
    before the backup is verified; until then it is in a directory for temporary files.

    Args:
        endpoints: members, asked in turn until one sends a backup.
        timeout_s: the longest that the member may send nothing.
        trust: which members are trusted that speak TLS.
        login: who asks.
        force: whether a file of that name may be replaced; nothing else is, such as a device or a link.

    Raises:
        ConfigError: the file exists and `force` does not allow to replace it, the member refuses, or the
            temporary file for standard output cannot be written.
        RaftKVError: no whole backup came.
        OSError: the file cannot be written.

    Cancellation removes the temporary file, also while nobody reads standard output.
    """
    opens = partial(open_rest_client, timeout_s, trust, login)
    fetch = partial(_fetch, endpoints, opens=opens, shows_progress=shows_progress)
    if file == STANDARD_STREAM:
        if sys.stdout is None:
            raise ConfigError("standard output is closed; name a file instead of -")
        with TemporaryDirectory(prefix="raftkv-trio-backup-") as directory:  # readable by this user only
            try:
                backup = await fetch(Path(directory) / "backup")
            except OSError as error:
                why = f"{error.strerror or error}; set TMPDIR to copy it to another place"
                raise ConfigError(f"the backup cannot be copied to {directory}: {why}") from error
            await _copy(backup.file, sys.stdout.fileno())
            return replace(backup, file=file)
    with new_file(file, replaces=force) as temporary:
        backup = await fetch(temporary)
    return replace(backup, file=file)


async def _copy(file: Path, descriptor: int) -> None:
    """Copy a file to a descriptor, at the pace of who reads it there.

    Raises OSError. Cancellation, and so Ctrl-C, ends it between two writes, none of which waits for a reader.
    """
    mode = os.fstat(descriptor).st_mode
    has_reader = S_ISFIFO(mode) or S_ISSOCK(mode)
    async with await trio.open_file(file, "rb") as source:
        while piece := await source.read(COPY_PIECE_BYTES):
            left = memoryview(piece)
            while left:
                if has_reader:
                    left = left[await _write_when_read(descriptor, left) :]
                else:  # a file on a disk, on which nothing can be waited for
                    left = left[await trio.to_thread.run_sync(os.write, descriptor, left) :]


async def _write_when_read(descriptor: int, data: memoryview) -> int:
    """Write the beginning of `data` as soon as there is room in a pipe or socket; returns how much."""
    # Not in a thread: a write that waits for a reader cannot be cancelled. Nor do we make the descriptor
    # non-blocking, since other processes may have it too. A pipe that has room has it for `PIPE_BUF` bytes.
    await trio.lowlevel.wait_writable(descriptor)
    try:
        return os.write(descriptor, data[:PIPE_BUF])
    except BlockingIOError:  # somebody else has made it non-blocking, and has taken the room
        return 0


async def _fetch(
    endpoints: Sequence[PeerAddress],
    file: Path,
    *,
    opens: "_OpensRest",
    shows_progress: bool,
) -> VerifiedSnapshot:
    failures: list[NoAnswer | RequestFailed] = []
    for endpoint in endpoints:
        try:
            await _download(endpoint, file, opens, shows_progress)
        # Whatever came of it: the next one sends all of it, and may still have a quorum.
        except (NoAnswer, RequestFailed) as error:
            failures.append(error)
        else:
            return await trio.to_thread.run_sync(_verify, endpoint, file)
    raise NobodyDid(failures)


async def _download(
    endpoint: PeerAddress, temporary: Path, opens: "_OpensRest", shows_progress: bool
) -> None:
    async with (
        opens() as rest,
        rest.download(endpoint, "/-/backup") as download,
        await trio.open_file(temporary, "wb", opener=open_no_link) as sink,
    ):
        with _progress(download.size_bytes, shows_progress) as advance:
            async for piece in download.pieces:
                await sink.write(piece)
                advance(len(piece))
        await sink.flush()
        await trio.to_thread.run_sync(os.fdatasync, sink.fileno())


def _verify(endpoint: PeerAddress, temporary: Path) -> VerifiedSnapshot:
    try:
        return verify_snapshot(OsDisk(), temporary)
    except CorruptLog as error:
        raise RaftKVError(
            f"{endpoint.url} sent a damaged backup: it does not verify at offset {error.offset}; try again"
        ) from error


@contextmanager
def _progress(size_bytes: int, is_shown: bool) -> Iterator[Callable[[int], None]]:
    if not is_shown:
        yield _show_nothing
        return
    with progressbar(length=size_bytes, label="backup", file=sys.stderr) as bar:
        yield bar.update


def _show_nothing(length: int) -> None: ...
