"""The control socket of a local cluster: a Unix socket beside the Procfile, for its owner only.

One request and one answer a connection, each a line of JSON. Whoever holds a lock on the Procfile's
directory owns the socket's name, so one that a killed supervisor left behind is simply replaced.
"""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from raftkv_trio.errors import ConfigError, RaftKVError

SOCKET_NAME = ".raftkv-trio-local.sock"
MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its final zero; longer than any other system's
MAX_REQUEST_BYTES = 64 * 1024


class Request(NamedTuple):
    """What `raftkv-trio local run` asks: a verb, for these processes or for all where there are none."""

    verb: str
    names: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGINT


class Reply(NamedTuple):
    """What the command prints, on standard error if it failed, and its exit code."""

    text: str
    exit_code: int = 0


Answerer = Callable[[Request], Awaitable[Reply]]


@contextmanager
def open_control_socket(directory: Path) -> Iterator[socket.socket]:
    """Own the directory's control socket: bound, listening, mode 0600; its name is removed at the end.

    Raises ConfigError where a local cluster runs from this directory already, or the path is too long.
    """
    address = _address(directory)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"a local cluster is already running from {directory.absolute()};"
                " act on it with raftkv-trio local run, or end it with Ctrl-C"
            ) from error
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                _bind(listening, address)
            except OSError as error:
                raise ConfigError(f"cannot make the control socket {address}: {error.strerror}") from error
            try:
                yield listening
            finally:
                Path(address).unlink(missing_ok=True)
    finally:
        os.close(lock)


async def serve_control(listening: socket.socket, answer: Answerer) -> None:
    """Reply requests until cancelled; requests that are out then end without an answer."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                reply = await _reply(stream, answer)
                await stream.send_all(json.dumps(reply).encode() + b"\n")
            except trio.BrokenResourceError:
                pass  # who asked is gone; what was asked for is done all the same

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
    await trio.serve_listeners(handle, [listener])


def call(directory: Path, request: Request) -> Reply:
    """Ask the local cluster of this directory, and wait for its answer.

    Raises RaftKVError where none is running, or it ends before it answers.
    """
    fields = [request.verb, request.names, request.stop_signal.name]
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(_address(directory))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise RaftKVError(
                f"no local cluster is running from {directory.absolute()};"
                " start one with raftkv-trio local start"
            ) from error
        try:
            connection.sendall(json.dumps(fields).encode() + b"\n")
            with connection.makefile("rb") as replies:
                line = replies.readline()
        except ConnectionError:
            line = b""
    if not line.endswith(b"\n"):
        raise RaftKVError("the local cluster ended before it answered")
    text, exit_code = json.loads(line)
    return Reply(text, exit_code)


async def _reply(stream: trio.SocketStream, answer: Answerer) -> Reply:
    line = bytearray()
    while not line.endswith(b"\n"):
        received = await stream.receive_some()
        line += received
        if not received or len(line) > MAX_REQUEST_BYTES:
            return Reply("the control socket takes one line of JSON", 2)
    try:
        verb, names, stop_signal = json.loads(line)
        request = Request(str(verb), tuple(map(str, names)), signal.Signals[stop_signal])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Reply(f"not a request: {error}", 2)
    try:
        return await answer(request)
    except ConfigError as error:
        return Reply(str(error), 2)
    except RaftKVError as error:
        return Reply(str(error), 1)


def _bind(listening: socket.socket, address: str) -> None:
    Path(address).unlink(missing_ok=True)
    umask = os.umask(0o177)
    try:
        listening.bind(address)
    finally:
        os.umask(umask)
    listening.listen()


def _address(directory: Path) -> str:
    """The socket's path, absolute or relative, whichever is shorter: the system bounds its length."""
    path = directory.absolute() / SOCKET_NAME
    address = min(str(path), os.path.relpath(path), key=len)
    if len(os.fsencode(address)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the path of the control socket is over {MAX_SOCKET_PATH_BYTES} bytes;"
            f" change into {directory} and run the command there"
        )
    return address
