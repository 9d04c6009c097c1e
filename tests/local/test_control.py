"""The control socket: one line in, one line out, and connections that do not disturb each other."""

import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.local.control import (
    MAX_REQUEST_BYTES,
    SOCKET_NAME,
    Reply,
    Request,
    RequestHandler,
    call,
    open_control_socket,
    serve_control,
)


async def echo(request: Request) -> Reply:
    return Reply(repr(request), 0)


@asynccontextmanager
async def serving(directory: Path, answer: RequestHandler = echo) -> AsyncIterator[None]:
    with trio.fail_after(60), open_control_socket(directory) as listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_control, listening, answer)
            yield
            nursery.cancel_scope.cancel()


async def ask(directory: Path, request: Request) -> Reply:
    return await trio.to_thread.run_sync(call, directory, request)


async def say(directory: Path, data: bytes) -> bytes:
    """All that comes back when this is said, and nothing more."""
    async with await trio.open_unix_socket(str(directory / SOCKET_NAME)) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        return b"".join([received async for received in stream])


async def test_a_request_arrives_as_it_was_made(tmp_path: Path) -> None:
    """Verb, names and signal reach the answerer, and its answer the caller."""
    request = Request("stop", ("a", "b c", "\N{SNOWMAN}"), signal.SIGKILL)
    async with serving(tmp_path):
        assert await ask(tmp_path, request) == Reply(repr(request), 0)


@pytest.mark.parametrize(("error", "exit_code"), [(ConfigError("no"), 2), (RaftKVError("broken"), 1)])
async def test_errors_are_answers(tmp_path: Path, error: RaftKVError, exit_code: int) -> None:
    """The reply to a request that fails has the error and its exit code, and the next request is served."""

    async def fail(request: Request) -> Reply:
        raise error

    async with serving(tmp_path, fail):
        for _ in range(2):
            assert await ask(tmp_path, Request("list")) == Reply(str(error), exit_code)


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    """The socket has mode 0600 with any umask, which is left as it was; the end removes the socket."""
    before = os.umask(0)
    try:
        async with serving(tmp_path):
            assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_one_owner_a_directory(tmp_path: Path) -> None:
    """A second owner is refused and takes nothing from the first; another directory is free."""
    (tmp_path / "other").mkdir()
    async with serving(tmp_path):
        with pytest.raises(ConfigError, match=f"already running from {tmp_path}"):
            open_control_socket(tmp_path).__enter__()
        async with serving(tmp_path / "other"):
            assert (await ask(tmp_path, Request("list"))).exit_code == 0


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """A socket without a listener refuses callers like a missing one, and the next owner replaces it."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(RaftKVError, match="no local cluster is running"):
        call(tmp_path, Request("list"))
    async with serving(tmp_path):
        assert (await ask(tmp_path, Request("list"))).exit_code == 0


def test_a_call_where_none_is_running(tmp_path: Path) -> None:
    """The error names the directory in which no cluster runs, and says how to start one."""
    with pytest.raises(RaftKVError, match=f"no local cluster is running from {tmp_path}; start one"):
        call(tmp_path, Request("list"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"no newline",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\0\n",
        b"[" * 50_000 + b"\n",
        b"x" * (MAX_REQUEST_BYTES + 1),
        b"1\n",
        b'"abc"\n',
        b'["stop", [], "SIGNOTHING"]\n',
        b'["stop", [], []]\n',
        b'["stop", 1, "SIGINT"]\n',
        b'["stop", [], "SIGINT", 4]\n',
        b'["list", [], "SIGINT"]\n["list", [], "SIGINT"]\n',
    ],
)
async def test_garbage_is_refused_and_harms_nobody(tmp_path: Path, garbage: bytes) -> None:
    """What is no request gets a sentence and exit code 2, and the next caller is served."""
    async with serving(tmp_path):
        text, exit_code = json.loads(await say(tmp_path, garbage))
        assert (bool(text), exit_code) == (True, 2)
        assert (await ask(tmp_path, Request("list"))).exit_code == 0


async def test_silent_and_vanished_clients_hold_up_nobody(tmp_path: Path) -> None:
    """Clients that say nothing, half a line, or go too early: others are served, and the end comes."""
    address = str(tmp_path / SOCKET_NAME)
    async with serving(tmp_path):
        silent = [await trio.open_unix_socket(address) for _ in range(50)]
        for stream in silent[:25]:
            await stream.send_all(b'["list"')
        for said in (b"", b'["list"', b'["list", [], "SIGINT"]\n'):
            for _ in range(20):
                async with await trio.open_unix_socket(address) as stream:
                    await stream.send_all(said)
        assert (await ask(tmp_path, Request("list"))).exit_code == 0
    for stream in silent:
        await stream.aclose()


async def test_a_caller_whose_cluster_ends_is_told(tmp_path: Path) -> None:
    """A request that is out when the cluster ends is an error of one sentence, not an empty answer."""
    asked = trio.Event()

    async def never(request: Request) -> Reply:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    outcome: list[BaseException] = []

    async def ask_in_vain() -> None:
        try:
            await ask(tmp_path, Request("stop"))
        except RaftKVError as error:
            outcome.append(error)

    async with trio.open_nursery() as nursery, serving(tmp_path, never):
        nursery.start_soon(ask_in_vain)
        await asked.wait()
    assert [str(error) for error in outcome] == ["the local cluster ended before it answered"]


async def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is too long works if the relative path is short enough; otherwise it is refused."""
    deep = tmp_path.joinpath(*["d" * 50] * 3)
    deep.mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"change into {deep}"):
        open_control_socket(deep).__enter__()
    with pytest.raises(ConfigError, match=f"change into {deep}"):
        await trio.to_thread.run_sync(partial(call, deep, Request("list")))
    monkeypatch.chdir(deep)
    async with serving(deep):
        assert (await ask(deep, Request("list"))).exit_code == 0
