"""`raftkv-trio backup` and `restore`: a snapshot's file out of a running cluster, new directories of it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from click.termui import progressbar

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.rest import unanswered
from raftkv_trio.client.status import NOT_A_NODE
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.storage import (
    Backup,
    OsDisk,
    verify_backup,
)


def fetch_backup(
    endpoint: PeerAddress, file: Path, *, timeout_s: float, force: bool, shows_progress: bool
) -> Backup:
    """Write a backup of the cluster that `endpoint` belongs to; it has its name once it is whole and durable.

    Raises ConfigError where `file` exists and `force` does not allow that, RaftKVError where no whole backup
    comes, OSError where it cannot be written. What there was stays until the new one is whole.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} exists already; name another file, or replace it with --force")
    temporary = file.with_name(f"{file.name}.part")
    try:
        try:
            _download(endpoint, temporary, timeout_s, shows_progress)
        except httpx.HTTPError as error:
            raise RaftKVError(unanswered(endpoint.url, error)) from error
        try:
            backup = verify_backup(OsDisk(), temporary)
        except ConfigError as error:
            raise RaftKVError(f"{endpoint.url}: {error}") from error
        temporary.replace(file)
        OsDisk().sync_directory(file.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return backup._replace(file=file)


def _download(endpoint: PeerAddress, temporary: Path, timeout_s: float, shows_progress: bool) -> None:
    with (
        httpx.Client(timeout=timeout_s, trust_env=False) as client,
        client.stream("GET", f"{endpoint.url}/-/backup") as answer,
    ):
        if answer.status_code != 200:
            answer.read()
            raise RaftKVError(f"{endpoint.url}: {_detail(answer)}")
        if "Content-Length" not in answer.headers:
            raise RaftKVError(f"{endpoint.url}: {NOT_A_NODE}")
        size_bytes = int(answer.headers["Content-Length"])
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as sink, _progress(size_bytes, shows_progress) as advance:
            for piece in answer.iter_raw():
                sink.write(piece)
                advance(len(piece))
            sink.flush()
            os.fdatasync(descriptor)


@contextmanager
def _progress(size_bytes: int, is_shown: bool) -> Iterator[Callable[[int], None]]:
    if not is_shown:
        yield _show_nothing
        return
    bar = progressbar(length=size_bytes, label="backup", file=sys.stderr)
    with bar:
        yield bar.update


def _show_nothing(length: int) -> None: ...


def _detail(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        return str(said["detail"])
    except (ValueError, KeyError, TypeError):
        return NOT_A_NODE
