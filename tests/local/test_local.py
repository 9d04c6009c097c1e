"""The nursery of processes, on real ones: each is started, stopped and told about by its name."""

import os
import re
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.local.console import Console
from raftkv_trio.local.control import Reply, Request, call
from raftkv_trio.local.process import ProcessContext
from raftkv_trio.local.supervisor import LocalCluster, run_local
from tests.local.supervised import IDLE, supervised, write_procfile
from tests.test_logs import full_pipe

STUBBORN = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"


async def test_output_is_whole_lines_after_their_names(tmp_path: Path) -> None:
    """Partial lines are joined, the last needs no newline, bytes stay as they are, stderr is there too."""
    procfile = write_procfile(
        tmp_path,
        {
            "a": "for part in (b'one ', b'line\\n\\ntwo', b' \\xff\\tlines\\nlast'): os.write(1, part)",
            "long-b": "os.write(2, b'to stderr\\n')",
        },
    )
    async with supervised(procfile) as seen:
        await seen.ended.wait()
    outputs = [re.sub(rb"pid \d+", b"pid N", line) for line in seen.output.split(b"\n")]
    assert [line for line in outputs if line.startswith(b"a ")] == [
        b"a      | one line",
        b"a      | ",
        b"a      | two \xff\tlines",
        b"a      | last",
    ]
    assert [line for line in outputs if line.startswith(b"long-b")] == [b"long-b | to stderr"]
    for name in (b"a", b"long-b"):
        told = [line for line in outputs if line.startswith(b"local  | %b " % name)]
        assert told == [b"local  | %b is running, pid N" % name, b"local  | %b exited with code 0" % name]


async def test_endless_lines_are_broken_but_nothing_is_lost(tmp_path: Path) -> None:
    """Lines of a megabyte come in pieces, each after the name, and the pieces are the line."""
    procfile = write_procfile(
        tmp_path,
        {"a": "sys.stdout.write('x' * 1_000_000 + '\\n' + 'y' * 1_000_000)", "b": "print('z' * 50_000)"},
    )
    async with supervised(procfile) as seen:
        await seen.ended.wait()
    pieces = [line.removeprefix("a     | ") for line in seen.lines if line.startswith("a ")]
    assert "".join(pieces) == "x" * 1_000_000 + "y" * 1_000_000
    assert max(map(len, pieces)) <= 128 * 1024
    assert f"b     | {'z' * 50_000}" in seen.lines


@pytest.mark.parametrize(
    ("endings", "exit_code"),
    [(("", ""), 0), (("", "sys.exit(3)"), 1), (("", "os.kill(os.getpid(), 9)"), None)],
)
async def test_processes_that_exit_are_reported_and_end_the_cluster(
    tmp_path: Path, endings: tuple[str, str], exit_code: int | None
) -> None:
    """The cluster ends when all processes have exited, with 1 if one failed; but not after one was killed."""
    procfile = write_procfile(tmp_path, dict(zip("ab", endings, strict=True)))
    async with supervised(procfile) as seen:
        if exit_code is None:
            await seen.wait_output(r"^local \| b ended by SIGKILL$")
            await seen.wait_output(r"^local \| a exited with code 0$")
            assert (await seen.ask("status")).text == " a  exited with code 0\n b  ended by SIGKILL"
            assert not seen.ended.is_set()
        else:
            await seen.ended.wait()
            assert await seen.wait_output(rf"^local \| b exited with code {3 * exit_code}$")
    assert seen.exit_code == (1 if exit_code is None else exit_code)


async def test_processes_that_are_quickly_done_do_not_end_it_before_all_are_started(tmp_path: Path) -> None:
    """Those at the head of the Procfile may have exited before its last one is started."""
    procfile = write_procfile(tmp_path, {"last": IDLE})
    quick = "".join(f"quick{number}: exit 0\n" for number in range(20))
    procfile.write_text(quick + procfile.read_text())
    async with supervised(procfile) as seen:
        await seen.pid_of("last")
        for number in range(20):
            await seen.wait_output(rf"^local +\| quick{number} exited with code 0$")
        assert "*last" in (await seen.ask("status", "last")).text


async def test_a_process_has_the_pid_and_the_code_that_are_told(tmp_path: Path) -> None:
    """No shell stands between a simple command and us: signals to the told pid reach the process itself."""
    procfile = write_procfile(
        tmp_path, {"a": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + IDLE}
    )
    async with supervised(procfile) as seen:
        pid = await seen.pid_of("a")
        assert (await seen.ask("status")).text == f"*a  running, pid {pid}"
        os.kill(pid, signal.SIGTERM)
        await seen.wait_output(r"^local \| a exited with code 7$")
        await seen.ended.wait()
    assert seen.exit_code == 1


async def test_the_verbs(tmp_path: Path) -> None:
    """Each verb acts on the named process alone, and says what came of it."""
    procfile = write_procfile(tmp_path, dict.fromkeys("abc", IDLE))
    async with supervised(procfile, ["b", "a"]) as seen:
        a, b = await seen.pid_of("a"), await seen.pid_of("b")
        assert await seen.ask("list") == Reply("a\nb\nc")
        rows = [f"*a  running, pid {a}", f"*b  running, pid {b}", " c  not started"]
        assert await seen.ask("status") == Reply("\n".join(rows))
        assert await seen.ask("status", "c", "a") == Reply(f"{rows[2]}\n{rows[0]}")
        assert await seen.ask("stop", "c") == Reply("c is not running")
        assert await seen.ask("start", "a") == Reply(f"a is already running, pid {a}")
        assert await seen.ask("stop", "b") == Reply("b stopped, ended by SIGINT")
        assert not seen.is_alive("b")
        assert await seen.ask("stop", "b") == Reply("b is not running")
        assert await seen.ask("stop", "a", stop_signal=signal.SIGKILL) == Reply("a stopped, ended by SIGKILL")
        assert await seen.ask("status", "a") == Reply(" a  stopped, ended by SIGKILL")
        started = await seen.ask("start", "b", "c")
        b, c = await seen.pid_of("b", run=2), await seen.pid_of("c")
        assert started == Reply(f"b is running, pid {b}\nc is running, pid {c}")
        restarted = await seen.ask("restart", "b", stop_signal=signal.SIGTERM)
        assert restarted == Reply(f"b is running, pid {await seen.pid_of('b', run=3)}")
        assert (await seen.ask("status", "c")).text == f"*c  running, pid {c}"
        assert await seen.ask("stop", "d") == Reply("no process is named 'd'; the Procfile names a, b, c", 2)
        assert (await seen.ask("frob")).exit_code == 2
    assert seen.exit_code == 0
    assert not any(map(seen.is_alive, "abc"))


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """After the grace period comes SIGKILL; the reply says so, and the exit code is 1."""
    procfile = write_procfile(tmp_path, {"a": STUBBORN + IDLE, "b": IDLE})
    async with supervised(procfile, grace_s=0.2) as seen:
        await seen.pid_of("a")
        b = await seen.pid_of("b")
        assert (await seen.ask("stop", "a")).text == "a killed because it did not stop in time"
        assert not seen.is_alive("a")
        assert (await seen.ask("status", "b")).text == f"*b  running, pid {b}"
    assert seen.exit_code == 1


async def test_kill_reaches_one_that_ignores_the_interrupt(tmp_path: Path) -> None:
    """A stop with SIGKILL ends at once a process that another stop still waits for."""
    procfile = write_procfile(tmp_path, {"a": STUBBORN + IDLE})
    async with supervised(procfile, grace_s=3600) as seen:
        await seen.pid_of("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen.ask, "stop", "a")
            assert (await seen.ask("stop", stop_signal=signal.SIGKILL)).text == "a stopped, ended by SIGKILL"
    assert seen.exit_code == 0


async def test_what_a_shell_forked_is_stopped_too(tmp_path: Path) -> None:
    """Signals go to the whole process group, and a run lasts until its last member let go of the output."""
    script = (
        "hello(); subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], pass_fds=[3])"
    )
    procfile = write_procfile(tmp_path, {"a": script.replace("3", "alive.fileno()")})
    procfile.write_text(procfile.read_text().replace("a: ", "a: echo shell $$ && "))
    async with supervised(procfile) as seen:
        await seen.pid_of("a")
        await seen.wait_output(r"^a +\| shell \d+$")
        assert seen.is_alive("a")
        assert (await seen.ask("status")).text.startswith("*a  running")
        await seen.ask("stop")
        assert not seen.is_alive("a")


async def test_an_outsider_that_holds_the_output_holds_up_nothing_for_ever(tmp_path: Path) -> None:
    """A process that left the group with the output in its hands delays the stop by the grace only."""
    outsider = "subprocess.Popen([sys.executable, '-c', OUTSIDER], start_new_session=True)\nsignal.pause()"
    source = "import os, signal; print('outsider', os.getpid(), flush=True); signal.pause()"
    procfile = write_procfile(tmp_path, {"a": f"OUTSIDER = {source!r}\n{outsider}"})
    async with supervised(procfile, grace_s=0.2) as seen:
        (pid,) = await seen.wait_output(r"^a +\| outsider (\d+)$")
        try:
            assert (await seen.ask("stop")).text == "a stopped, ended by SIGINT"
        finally:
            os.kill(int(pid), signal.SIGKILL)
    assert seen.exit_code == 0


async def test_commands_that_race_never_run_a_process_twice(tmp_path: Path) -> None:
    """Starts, stops and restarts from many callers at once leave at most one process, under control."""
    # A second one at the same time would find the lock of the prelude taken, and say so.
    procfile = write_procfile(tmp_path, {"a": IDLE})
    async with supervised(procfile) as seen:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(seen.ask, ("start", "restart", "stop")[number % 3])
        await seen.ask("start")
        assert (await seen.ask("status")).text.startswith("*a  running, pid")
        assert seen.output.count(b"BlockingIOError") == 0


async def test_a_start_fails_if_the_node_does_not_serve_in_time(tmp_path: Path) -> None:
    """The time for that is its own, not the time that a stop has; and the node goes on."""
    reader, writer = os.pipe()
    program = tmp_path / "raftkv-trio"  # its name makes it a node
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            context = ProcessContext(
                directory=tmp_path,
                environment=os.environ,
                console=Console(writer, ["local", "a"], color=False),
                nursery=nursery,
                grace_s=3600,
                ready_s=0.1,
            )
            cluster = LocalCluster({"a": "./raftkv-trio serve"}, context)
            with pytest.raises(RaftKVError, match=r"a is running, pid \d+, but does not serve after 0.1 s"):
                await cluster.answer(Request("start"))
            assert cluster.processes["a"].is_running
            await cluster.stop()
    for fd in (reader, writer):
        os.close(fd)


async def test_a_second_stop_sends_no_second_signal(tmp_path: Path) -> None:
    """Two stops of one process, or the end of the cluster during one, interrupt it once only."""
    trap = "def told(*_):\n    print('told', flush=True)\nsignal.signal(signal.SIGINT, told)\n"
    wait = "hello()\nwhile not os.path.exists('enough'):\n    time.sleep(0.01)\n"
    procfile = write_procfile(tmp_path, {"a": trap + wait})
    reader, writer = os.pipe()
    console = Console(writer, ["local", "a"], color=False)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            context = ProcessContext(
                directory=tmp_path, environment=os.environ, console=console, nursery=nursery, grace_s=3600
            )
            cluster = LocalCluster({"a": procfile.read_text().partition(":")[2].strip()}, context)
            await cluster.start(["a"])
            output = b""
            stream = trio.lowlevel.FdStream(reader)
            while b"hello" not in output:
                output += await stream.receive_some()
            for stop in (cluster.stop, partial(cluster.answer, Request("stop")), cluster.stop):
                nursery.start_soon(stop)
                await wait_all_tasks_blocked()
            (tmp_path / "enough").touch()
    os.close(writer)
    output += b"".join([received async for received in stream])
    assert output.count(b"told") == 1
    await stream.aclose()


async def test_when_nobody_reads_the_output_all_is_stopped(tmp_path: Path) -> None:
    """Like `local start | head -1`: once the reader is gone the processes are stopped."""
    procfile = write_procfile(tmp_path, {"a": IDLE, "b": "while True: print('more', flush=True)"})
    reader, writer = os.pipe()
    os.close(reader)
    with trio.fail_after(60):
        code = await run_local(
            procfile, (), environment=os.environ, output=writer, color=False, stop=trio.Event()
        )
    os.close(writer)
    assert code in (0, 1)  # 1 if the process met the broken pipe before the signal
    assert not (tmp_path / ".raftkv-trio-local.sock").exists()


async def test_a_halted_terminal_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """If the output is not read, all processes are stopped and the call returns."""
    procfile = write_procfile(tmp_path, {"a": "while True: print('x' * 1000, flush=True)"})
    reader, writer = os.pipe()
    stop = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    run_local,
                    procfile,
                    (),
                    environment=os.environ,
                    output=writer,
                    color=False,
                    stop=stop,
                    grace_s=0.2,
                )
            )
            while select.select([], [writer], [], 0)[1]:  # noqa: ASYNC110 - until the pipe is full
                await trio.sleep(0.01)
            stop.set()
    os.close(reader)
    os.close(writer)


async def test_cancelled_it_kills_what_runs(tmp_path: Path) -> None:
    """Cancellation waits for nothing but the end of what it killed, stubborn or not."""
    procfile = write_procfile(tmp_path, {"a": STUBBORN + IDLE})
    with trio.CancelScope() as scope:
        async with supervised(procfile, grace_s=3600) as seen:
            await seen.pid_of("a")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert not seen.is_alive("a")
    assert not (tmp_path / ".raftkv-trio-local.sock").exists()


@pytest.mark.parametrize(
    ("text", "names", "sentence"),
    [
        (None, [], "cannot read .*Procfile: No such file or directory; name another with `procfile`"),
        (b"\xff", [], "cannot read .*Procfile: 'utf-8' codec can't decode"),
        (b"a: true", ["b"], "no process is named 'b'; the Procfile names a"),
    ],
)
async def test_what_does_not_fit_is_refused(
    tmp_path: Path, text: bytes | None, names: list[str], sentence: str
) -> None:
    """A Procfile that cannot be read, or an unknown name, is a ConfigError before anything is started."""
    procfile = tmp_path / "Procfile"
    if text is not None:
        procfile.write_bytes(text)
    with pytest.raises(ConfigError, match=sentence):
        await run_local(procfile, names, environment=os.environ, output=1, color=False, stop=trio.Event())


async def test_a_full_disk_under_the_output_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Output that the system refuses is dropped with a warning, and the processes go on."""
    procfile = write_procfile(tmp_path, {"a": IDLE})
    stop = trio.Event()
    exit_codes: list[int] = []

    output = os.open("/dev/full", os.O_WRONLY)

    async def run() -> None:
        exit_codes.append(
            await run_local(procfile, [], environment=os.environ, output=output, color=False, stop=stop)
        )

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while "No space left on device" not in caplog.text:
                assert exit_codes == []
                await trio.sleep(0.01)
            reply = await trio.to_thread.run_sync(call, tmp_path, Request("status", (), signal.SIGINT))
            assert reply.text.startswith("*a  running")
            stop.set()
    os.close(output)
    assert exit_codes == [0]


# Writes until nothing has made room for half a second, and then is a node.
FILL_OUTPUT = """
os.set_blocking(1, False)
written_at = time.monotonic()
while time.monotonic() - written_at < 0.5:
    try:
        os.write(1, b"x" * 1023 + b"\\n")
        written_at = time.monotonic()
    except BlockingIOError:
        time.sleep(0.01)
os.set_blocking(1, True)
os.execv(sys.executable, [sys.executable, "-m", "raftkv_trio", *sys.argv[2:]])
"""


async def test_a_reader_of_the_output_that_halts_holds_up_no_node(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """If the output of `local start` is not read, its node serves, and everything stops cleanly."""
    peer_port, port = free_ports(2)
    procfile = write_procfile(tmp_path, {"a": FILL_OUTPUT})
    command = f" serve --cluster http://127.0.0.1:{peer_port} --port {port} --log-level debug\n"
    procfile.write_text(procfile.read_text().rstrip("\n") + command)
    stop = trio.Event()
    exit_codes: list[int] = []
    with full_pipe() as (_, writer), trio.fail_after(60):
        async with trio.open_nursery() as nursery, httpx.AsyncClient(verify=False) as client:

            async def run() -> None:
                exit_codes.append(
                    await run_local(
                        procfile,
                        [],
                        environment=os.environ,
                        output=writer,
                        color=False,
                        stop=stop,
                        grace_s=5,
                    )
                )

            nursery.start_soon(run)
            url = f"http://127.0.0.1:{port}"
            is_ready = False
            while not is_ready:
                await trio.sleep(0.02)
                with suppress(httpx.TransportError):
                    is_ready = (await client.get(url + "/-/ready")).status_code == 200
            changed = await client.put(url + "/-/log-level", json={"level": "debug"})  # makes a line
            assert changed.status_code == 200
            stop.set()
    assert exit_codes == [0]


def test_names_are_coloured_where_asked() -> None:
    """Each name has a colour of its own, and the line behind it has none."""
    reader, writer = os.pipe()
    console = Console(writer, ["a", "bb"], color=True)

    async def write() -> None:
        await console.write("a", [b"x"])
        await console.write("bb", [b"y"])

    trio.run(write)
    os.close(writer)
    with open(reader, "rb") as output:
        assert output.read() == b"\x1b[36ma  |\x1b[0m x\n\x1b[33mbb |\x1b[0m y\n"


async def test_a_start_ends_with_a_command_to_try(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """When the nodes serve and one of them leads, the output says which, and the command works."""
    peer_port, port = free_ports(2)
    procfile = tmp_path / "Procfile"
    flags = f"--cluster http://127.0.0.1:{peer_port} --port {port}"
    procfile.write_text(f"a: {sys.executable} -m raftkv_trio serve {flags}\n")
    async with supervised(procfile) as seen:
        (said,) = await seen.wait_output(r"^local \| node 1 leads; try: curl (.*)$")
        assert said == f"http://127.0.0.1:{port}/my-key -XPUT -d hello"
        async with httpx.AsyncClient(verify=False) as client:
            assert (await client.put(said.split()[0], content=b"hello")).status_code == 204


async def test_a_start_waits_until_a_node_serves(tmp_path: Path) -> None:
    """For a node, start and restart return when it serves, and fail if it ends before that."""
    # The command's name makes it a node; whether it serves is up to the test.
    program = tmp_path / "raftkv-trio"
    wait = "touch asked; while [ ! -e go ]; do sleep 0.01; done; [ -e broken ] && . ./broken"
    program.write_text(f"#!/bin/sh\n{wait}\necho > /dev/fd/$RAFTKV_TRIO_READY_FD\nexec sleep 600\n")
    program.chmod(0o700)
    procfile = tmp_path / "Procfile"
    procfile.write_text("a: ./raftkv-trio serve\nb: exec sleep 600\n")
    asked, go = tmp_path / "asked", tmp_path / "go"
    async with supervised(procfile, ["b"]) as seen:
        for verb in ("start", "restart"):
            async with trio.open_nursery() as nursery:
                answers: list[Reply] = []

                async def ask(verb: str = verb, answers: list[Reply] = answers) -> None:
                    answers.append(await seen.ask(verb, "a"))

                nursery.start_soon(ask)
                while not asked.exists():  # noqa: ASYNC110 - it is another process
                    await trio.sleep(0.01)
                assert (await seen.ask("status", "a")).text.startswith("*a  running")
                assert answers == []
                go.touch()
            assert answers[0].text.startswith("a is running, pid ")
            asked.unlink()
            go.unlink()
        go.touch()
        broken = tmp_path / "broken"
        broken.write_text("exit 4")
        assert await seen.ask("restart", "a") == Reply("a exited with code 4", 1)
        # Why it has ended is told where it was asked, not at the terminal of the cluster alone.
        broken.write_text("echo starting; echo 'raftkv-trio: node 1 was removed\t'; exit 2")
        assert await seen.ask("start", "a") == Reply("a exited with code 2: node 1 was removed", 1)
        broken.write_text("printf 'no \\033[31mroom'; exit 1")
        assert await seen.ask("start", "a") == Reply("a exited with code 1: no \\x1b[31mroom", 1)
