"""`raftkv-trio backup`: the state of a running cluster in one file, verified to its end."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory

import trio
from click.termui import progressbar

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.rest import NoAnswer, NobodyDid, RequestFailed, open_rest_client
from raftkv_trio.errors import ConfigError, CorruptLog, RaftKVError
from raftkv_trio.storage import OsDisk, VerifiedSnapshot, verify_snapshot
from raftkv_trio.storage.disk import FILE_MODE
from raftkv_trio.user_files import new_file

#: As a file's name: standard output.
STANDARD_STREAM = Path("-")


async def fetch_backup(
    endpoints: Sequence[PeerAddress], file: Path, *, timeout_s: float, force: bool, shows_progress: bool
) -> VerifiedSnapshot:
    """Write a backup of the cluster that the endpoints belong to; the file `-` is standard output.

    The backup is written to a temporary file, which gets the name `file` when it is verified and durable. So
    a file of that name is replaced by a whole backup or not at all. Nothing is written to standard output
    before the backup is verified.

    Args:
        endpoints: members, asked in turn until one sends a backup.
        timeout_s: the longest that the member may send nothing.
        force: whether a file of that name may be replaced; nothing else is, such as a device or a link.

    Raises:
        ConfigError: the file exists and `force` does not allow to replace it, or the member refuses.
        RaftKVError: no whole backup came.
        OSError: the file cannot be written.

    Cancellation removes the temporary file.
    """
    fetch = partial(_fetch, endpoints, timeout_s=timeout_s, shows_progress=shows_progress)
    if file == STANDARD_STREAM:
        if sys.stdout is None:
            raise ConfigError("standard output is closed; name a file instead of -")
        with TemporaryDirectory(prefix="raftkv-trio-backup-") as directory:  # readable by this user only
            backup = await fetch(Path(directory) / "backup")
            await trio.to_thread.run_sync(_copy_to_stdout, backup.file)
            return replace(backup, file=file)
    with new_file(file, replaces=force) as temporary:
        backup = await fetch(temporary)
    return replace(backup, file=file)


def _copy_to_stdout(file: Path) -> None:
    with file.open("rb") as source, open(sys.stdout.fileno(), "wb", closefd=False) as sink:
        copyfileobj(source, sink)


async def _fetch(
    endpoints: Sequence[PeerAddress], file: Path, *, timeout_s: float, shows_progress: bool
) -> VerifiedSnapshot:
    failures: list[NoAnswer | RequestFailed] = []
    for endpoint in endpoints:
        try:
            await _download(endpoint, file, timeout_s, shows_progress)
        # Whatever came of it: the next one sends all of it, and may still have a quorum.
        except (NoAnswer, RequestFailed) as error:
            failures.append(error)
        else:
            return await trio.to_thread.run_sync(_verify, endpoint, file)
    raise NobodyDid(failures)


async def _download(endpoint: PeerAddress, temporary: Path, timeout_s: float, shows_progress: bool) -> None:
    async with (
        open_rest_client(timeout_s) as rest,
        rest.download(endpoint, "/-/backup") as download,
        await trio.open_file(temporary, "wb", opener=_open_no_link) as sink,
    ):
        with _progress(download.size_bytes, shows_progress) as advance:
            async for piece in download.pieces:
                await sink.write(piece)
                advance(len(piece))
        await sink.flush()
        await trio.to_thread.run_sync(os.fdatasync, sink.fileno())


def _open_no_link(path: str, flags: int) -> int:
    """Open the file that we made, and not what somebody else may have put in its place."""
    return os.open(path, flags | os.O_NOFOLLOW, FILE_MODE)


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
