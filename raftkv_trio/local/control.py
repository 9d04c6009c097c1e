"""The control socket of a local cluster: a Unix socket beside the Procfile, for its owner only.

Each connection carries one request and one reply, each a line of JSON. The supervisor holds a lock on the
Procfile's directory, so it can safely replace a socket that a killed supervisor left behind.
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

from raftkv_trio.errors import ConfigError, DecodeError, RaftKVError

SOCKET_NAME = ".raftkv-trio-local.sock"
MAX_SOCKET_PATH_BYTES = 107  # sun_path on Linux without its final zero byte; other systems allow less
MAX_REQUEST_BYTES = 64 * 1024


class Request(NamedTuple):
    """What `raftkv-trio local run` asks for.

    Attributes:
        verb: one of `supervisor.VERBS`.
        names: of the processes; empty means all.
        stop_signal: what the verbs `stop` and `restart` send.
    """

    verb: str
    names: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGINT


class Reply(NamedTuple):
    """What the command prints, and its exit code. It prints to standard error if the code is not 0."""

    text: str
    exit_code: int = 0


RequestHandler = Callable[[Request], Awaitable[Reply]]


@contextmanager
def open_control_socket(directory: Path) -> Iterator[socket.socket]:
    """Open the directory's control socket, mode 0600, and listen; it is removed at the end of the block.

    Raises ConfigError if a local cluster already runs from this directory, or the path is too long.
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


async def serve_control(listening: socket.socket, answer: RequestHandler) -> None:
    """Answer requests until cancelled. Cancellation ends the open connections without a reply."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                reply = await _reply(stream, answer)
                await stream.send_all(json.dumps(reply).encode() + b"\n")
            except trio.BrokenResourceError:
                pass  # the command was interrupted; its request was carried out nevertheless

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
    await trio.serve_listeners(handle, [listener])


def call(directory: Path, request: Request) -> Reply:
    """Send a request to the local cluster of this directory, and wait for the reply.

    Raises RaftKVError if no local cluster runs there, or it ends before it replies.
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


def decode_request(line: bytes | bytearray) -> Request:
    """The request in a line of JSON; raises DecodeError."""
    try:
        verb, names, stop_signal = json.loads(line)
        return Request(str(verb), tuple(map(str, names)), signal.Signals[stop_signal])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DecodeError(f"not a request: {error}") from error


async def _reply(stream: trio.SocketStream, answer: RequestHandler) -> Reply:
    line = bytearray()
    while not line.endswith(b"\n"):
        received = await stream.receive_some()
        line += received
        if not received or len(line) > MAX_REQUEST_BYTES:
            return Reply("the control socket takes one line of JSON", 2)
    try:
        request = decode_request(line)
    except DecodeError as error:
        return Reply(str(error), 2)
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
    """The socket's path, absolute or relative, whichever is shorter: the system limits its length."""
    path = directory.absolute() / SOCKET_NAME
    address = min(str(path), os.path.relpath(path), key=len)
    if len(os.fsencode(address)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the path of the control socket is over {MAX_SOCKET_PATH_BYTES} bytes;"
            f" change into {directory} and run the command there"
        )
    return address
