"""When what a stream says leaves: at once where nothing else is under way, together where more follows."""

from collections.abc import Sized

import pytest
import trio
import trio.testing

from raftkv_trio.grpc import Load
from raftkv_trio.grpc.frames import DATA
from raftkv_trio.grpc.room import SEND_AHEAD_BYTES
from raftkv_trio.tcp_stream import TcpStream
from tests.grpc.ends import STREAM_PATH, data, head, message
from tests.grpc.wired import BEGIN, WIDE, limits, wired

TOGETHER = head(path=b"/test.Echo/Together")


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that have sent something, by name."""
    senders: list[str] = []
    send_now = TcpStream.send_now

    def note(self: TcpStream, content: bytes | bytearray | memoryview) -> int:
        senders.append(trio.lowlevel.current_task().name.rpartition(".")[2])
        return send_now(self, content)

    monkeypatch.setattr(TcpStream, "send_now", note)
    return senders


async def test_a_lone_stream_sends_at_once(senders: list[str]) -> None:
    """Its own task does, so that a message costs no second one."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, head(path=STREAM_PATH))
        await trio.testing.wait_all_tasks_blocked(0.01)
        senders.clear()
        for _ in range(3):
            await wire.say(data(message(b"x"), ends=False))
            assert (await wire.hear(DATA))[3] == message(b"x")
        assert senders == ["_serve_streaming"] * 3


async def test_a_stream_beside_other_calls_sends_with_them(senders: list[str]) -> None:
    """The task that writes does it: the answers of other calls may leave with the message."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, head(path=STREAM_PATH))
        await wire.say(head(3, path=b"/test.Echo/Wait"), data(message(b"x"), 3))
        await trio.testing.wait_all_tasks_blocked(0.01)
        senders.clear()
        await wire.say(data(message(b"x"), ends=False))
        await wire.hear(DATA)
        assert senders == ["_write"]


async def test_messages_that_leave_together(senders: list[str]) -> None:
    """All of a stream's messages behind which more follows leave with the last one, in one send."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, TOGETHER)
        await trio.testing.wait_all_tasks_blocked(0.01)
        senders.clear()
        await wire.say(data(message(b"5"), ends=False))
        for _ in range(5):
            assert (await wire.hear(DATA))[3] == message(b"t")
        assert len(senders) == 1


async def test_messages_that_leave_together_wait_for_the_client() -> None:
    """More of them than may wait leave in time, and all of them in the end."""
    count, load = 30_000, Load()
    async with wired(limits(soft_queue_bytes=100_000), buffer_bytes=4096, load=load) as wire:
        await wire.say(WIDE, TOGETHER)
        await wire.say(data(message(b"%d" % count), ends=False))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert 90_000 < load.queued_bytes < 110_000
        for _ in range(count):
            await wire.hear(DATA)


class Steps(trio.abc.Instrument):
    """Notes how much grows in one step of a task."""

    def __init__(self, grows: Sized) -> None:
        self.most = 0
        self._grows = grows
        self._before = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = len(self._grows)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most = max(self.most, len(self._grows) - self._before)


async def test_a_stream_that_never_waits_lets_others_run(senders: list[str]) -> None:
    """The system takes hundreds of messages at once, and the handler awaits nothing else."""
    async with wired(limits(), buffer_bytes=2**22) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Count"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        senders.clear()
        steps = Steps(senders)
        trio.lowlevel.add_instrument(steps)
        await wire.say(data(message(b"1000"), ends=False))
        for _ in range(1000):
            await wire.hear(DATA)
        trio.lowlevel.remove_instrument(steps)
        assert len(senders) > 900
        assert steps.most <= SEND_AHEAD_BYTES // 1024 + 1
