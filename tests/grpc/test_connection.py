"""One client's connection on Trio: its deadlines, its bounds, its end. Limits are small, so time is real."""

import pytest
import trio
import trio.testing

from raftkv_trio.grpc import Load, frames
from raftkv_trio.grpc.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    ErrorCode,
    settings,
)
from raftkv_trio.grpc.room import TOO_MANY_WAIT
from raftkv_trio.pace import Pace
from raftkv_trio.world import TrioClock
from tests.grpc.ends import STREAM_PATH, data, head, message, request
from tests.grpc.wired import BEGIN, SOON_S, WIDE, limits, wired

NARROW = PREFACE + settings({frames.INITIAL_WINDOW_SIZE: 0})


def code_of(heard: list[frames.Frame]) -> int:
    """The code of GOAWAY, with which a connection ends."""
    (payload,) = [payload for kind, _, _, payload in heard if kind == GOAWAY]
    return frames.read_go_away(payload)[1]


# ---------------------------------------------------------------- streams that wait


@pytest.mark.parametrize("begins_with", [NARROW, WIDE])
async def test_a_stream_that_waits_for_its_client_costs_nothing(begins_with: bytes) -> None:
    """Whether for a window or for the socket: no task runs until the client reads."""
    call = head(path=b"/test.Echo/Count") + data(message(b"100000"))
    async with wired(limits(), buffer_bytes=4096, first_bytes=begins_with + call) as wire:
        with trio.fail_after(10):
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert wire.connection.tasks == 3


class Steps(trio.abc.Instrument):
    """Counts how often a task runs."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_a_window_that_grows_wakes_the_stream_that_waits_for_it() -> None:
    """And none of the many others."""
    calls = b"".join(
        head(stream_id, path=b"/test.Echo/Count") + data(message(b"100000"), stream_id)
        for stream_id in range(1, 401, 2)
    )
    async with wired(limits(), first_bytes=NARROW + calls) as wire:
        steps = Steps()
        with trio.fail_after(30):
            await trio.testing.wait_all_tasks_blocked(0.05)
            trio.lowlevel.add_instrument(steps)
            await wire.say(frames.window_update(1, 2000))
            while len((await wire.hear(DATA))[3]) < 900:
                pass
            await trio.testing.wait_all_tasks_blocked(0.05)
            trio.lowlevel.remove_instrument(steps)
        assert wire.connection.tasks == 202
    assert steps.count < 50, steps.count


# ---------------------------------------------------------------- deadlines


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        PREFACE[:10],
        PREFACE,
        BEGIN + b"\0",
        BEGIN + frames.head(DATA, 0, 1, 100) + b"x",
        BEGIN + frames.frame(HEADERS, 0, 1, b"\x83"),
    ],
)
async def test_what_never_arrives_wholly(beginning: bytes) -> None:
    """The preface, a frame, or a head that is begun ends the connection after `header_timeout_s`."""
    async with wired(limits(header_timeout_s=SOON_S), first_bytes=beginning) as wire:
        assert code_of(await wire.hear_end()) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_trickle_does_not_move_the_deadline() -> None:
    """Of a frame, a byte comes now and then."""
    async with wired(limits(header_timeout_s=SOON_S)) as wire, trio.open_nursery() as nursery:
        await wire.say(BEGIN)
        nursery.start_soon(wire.trickle, frames.head(99, 0, 0, 100), b"x")
        assert code_of(await wire.hear_end()) == ErrorCode.ENHANCE_YOUR_CALM
        nursery.cancel_scope.cancel()


async def test_each_frame_has_its_own_deadline() -> None:
    """Two that arrive in pieces, one long after the other."""
    async with wired(limits(header_timeout_s=SOON_S)) as wire:
        await wire.say(BEGIN)
        for first in (1, 3):
            call = request(first)
            await wire.say(call[:5])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await wire.say(call[5:])
            assert (await wire.hear(DATA))[2] == first
            await trio.sleep(1.5 * SOON_S)


async def test_an_idle_connection_has_no_deadline_of_its_own() -> None:
    """After whole frames nothing is waited for; who keeps the connections ends idle ones."""
    async with wired(limits(header_timeout_s=SOON_S, body_timeout_s=SOON_S, send_timeout_s=SOON_S)) as wire:
        await wire.say(BEGIN, request())
        await wire.hear(DATA)
        await trio.sleep(2 * SOON_S)
        await wire.say(request(3))
        assert (await wire.hear(DATA))[3] == message(b"x")


async def test_a_request_that_never_arrives_wholly() -> None:
    """Its call ends, with a status, after `body_timeout_s`; others go on."""
    async with wired(limits(body_timeout_s=SOON_S)) as wire:
        await wire.say(BEGIN, head(), data(message(b"abc")[:6], ends=False))
        _, flags, stream_id, block = await wire.hear(HEADERS)
        assert (flags & END_STREAM, stream_id) == (END_STREAM, 1)
        assert b"did not arrive in time" in block
        assert frames.read_number((await wire.hear(RST_STREAM))[3]) == ErrorCode.NO_ERROR
        await wire.say(request(3))
        assert (await wire.hear(DATA))[2] == 3


async def test_a_client_that_does_not_read() -> None:
    """The connection ends when nothing was taken for `send_timeout_s`."""
    async with wired(limits(send_timeout_s=SOON_S), buffer_bytes=4096) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"5000000")))
        with trio.fail_after(5):
            await wire.ended.wait()


async def test_a_client_that_reads_slowly() -> None:
    """64 KiB in the time is enough."""
    async with wired(limits(send_timeout_s=4 * SOON_S), buffer_bytes=4096) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"1000000")))
        got = 0
        while got < 1_000_000:
            got += len(await wire.stream.receive_some(65536))
            await trio.sleep(SOON_S / 40)
        assert not wire.ended.is_set()


async def test_a_response_for_which_the_client_gives_no_window() -> None:
    """Its stream is reset after `send_timeout_s`; a byte now and then is not enough; others go on."""
    async with wired(limits(send_timeout_s=SOON_S)) as wire:
        await wire.say(PREFACE, settings({frames.INITIAL_WINDOW_SIZE: 5}), request(1, b"x" * 500))
        assert (await wire.hear(DATA))[3] == message(b"x" * 500)[:5]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.trickle, b"", frames.window_update(1, 1))
            assert frames.read_number((await wire.hear(RST_STREAM))[3]) == ErrorCode.CANCEL
            nursery.cancel_scope.cancel()
        await wire.say(request(3, b""))
        assert (await wire.hear(DATA))[3] == message(b"")
        await wire.say(request(5, b"x" * 50))  # and the same again, after a while in which nothing waited
        assert frames.read_number((await wire.hear(RST_STREAM))[3]) == ErrorCode.CANCEL


async def test_a_stream_that_nobody_reads_may_wait() -> None:
    """A client that reads nothing of a stream for long is none that is too slow."""
    async with wired(limits(send_timeout_s=SOON_S)) as wire:
        await wire.say(PREFACE, settings({frames.INITIAL_WINDOW_SIZE: 10}), frames.window_update(0, 2**20))
        await wire.say(head(path=b"/test.Echo/Count"))
        await wire.say(data(message(b"100")))
        await wire.hear(DATA)
        await trio.sleep(2 * SOON_S)
        await wire.say(frames.window_update(1, 2**20))
        got = b""
        while len(got) < 100 * (1024 + 5) - 10:
            got += (await wire.hear(DATA))[3]
        assert (await wire.hear(HEADERS))[1] & END_STREAM


# ---------------------------------------------------------------- bounds


async def test_calls_wait_while_too_much_is_to_be_read() -> None:
    """They begin when the client has read; each gets its answer."""
    async with wired(limits(soft_queue_bytes=200_000), buffer_bytes=4096) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"1000000")))
        await wire.hear(HEADERS)
        await wire.say(head(3, path=b"/test.Echo/Wait"), data(message(b"x"), 3))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert wire.service.begun == []
        wire.service.gate.set()
        while (await wire.hear(HEADERS))[2] != 3:
            pass
        assert wire.service.begun == ["Wait"]


def big(stream_id: int, size: int = 1_000_000) -> bytes:
    """Asks for a large response."""
    return head(stream_id, path=b"/test.Echo/Big") + data(message(b"%d" % size), stream_id)


async def test_large_responses_wait_for_each_other() -> None:
    """Two fit at once, two more wait, and the rest is refused; the client reads them in the end."""
    async with wired(limits(max_queue_bytes=3_000_000)) as wire:
        await wire.say(NARROW, *(big(stream_id) for stream_id in range(1, 21, 2)), request(21, b""))
        refused = set[int]()
        while len(refused) < 6:
            stream_id, block = await wire.hear_end_of_call()
            assert TOO_MANY_WAIT.encode() in block
            refused.add(stream_id)
        await trio.testing.wait_all_tasks_blocked(0.02)
        await wire.say(frames.window_update(0, 2**30), settings({frames.INITIAL_WINDOW_SIZE: 2**30}))
        served = {(await wire.hear_end_of_call())[0] for _ in range(5)}
        assert 21 in served
        assert served | refused == set(range(1, 22, 2))


async def test_large_responses_that_wait_can_be_given_up() -> None:
    """The client resets one that waits, and one for which that one waits: the next has its turn."""
    async with wired(limits(max_queue_bytes=3_000_000)) as wire:
        await wire.say(NARROW)
        for stream_id, size in ((1, 2_000_000), (3, 1_200_000), (5, 1_100_000)):
            await wire.say(big(stream_id, size))
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert (await wire.hear(HEADERS))[2] == 1
        await wire.say(frames.reset(3, ErrorCode.CANCEL))
        await trio.testing.wait_all_tasks_blocked(0.02)
        await wire.say(frames.reset(1, ErrorCode.CANCEL))
        assert (await wire.hear(HEADERS))[2] == 5
        await wire.say(frames.window_update(0, 2**30), frames.window_update(5, 2**30))
        assert (await wire.hear_end_of_call())[0] == 5


async def test_large_responses_are_bounded_on_all_connections() -> None:
    """What does not fit beside those of others is refused, and the connection goes on."""
    load = Load()
    load.queued_bytes = 2_500_000  # of others
    async with wired(limits(max_all_queue_bytes=3_000_000), load=load) as wire:
        await wire.say(NARROW, big(1, 1_100_000))
        assert TOO_MANY_WAIT.encode() in (await wire.hear_end_of_call())[1]
        await wire.say(frames.window_update(0, 2**30), request(3, b""), frames.window_update(3, 5))
        assert (await wire.hear_end_of_call())[0] == 3
        load.queued_bytes -= 2_500_000


async def test_too_much_to_be_read_ends_the_connection() -> None:
    """Streams for which the client gives no window are kept up to a bound."""
    async with wired(limits(max_queue_bytes=1_000_000)) as wire:
        await wire.say(NARROW)
        for stream_id in range(1, 101, 2):
            await wire.say(head(stream_id, path=b"/test.Echo/Count"), data(message(b"1000"), stream_id))
        assert code_of(await wire.hear_end()) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_response_that_is_too_large_ends_its_call_alone() -> None:
    """Else its client would ask for it on connection after connection."""
    async with wired(limits(max_queue_bytes=800_000)) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"700001")))
        _, flags, stream_id, _ = await wire.hear(HEADERS)
        assert (stream_id, flags & END_STREAM) == (1, END_STREAM)
        await wire.say(head(3, path=b"/test.Echo/Big"), data(message(b"700000"), 3))
        assert not (await wire.hear(HEADERS))[1] & END_STREAM
        while not (said := await wire.hear(HEADERS))[1] & END_STREAM:
            pass
        assert said[2] == 3


async def test_tasks_are_used_again() -> None:
    """A thousand calls, sixteen at a time, take no more tasks than that."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, frames.window_update(0, 2**20))
        for first in range(1, 2001, 32):
            await wire.say(*(request(first + 2 * number) for number in range(16)))
            for _ in range(16):
                await wire.hear(DATA)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert 2 < wire.connection.tasks <= 18  # beside its own two


async def test_refusals_have_a_pace() -> None:
    """A host that asks again and again for what there is not is read more slowly."""
    pace = Pace(TrioClock(), 50, 10)
    async with wired(limits(), pace=pace) as wire:
        await wire.say(BEGIN)
        begun_at = trio.current_time()
        for number in range(40):
            await wire.say(head(2 * number + 1, path=b"/no/such", ends=True))
            await wire.hear(HEADERS)
        assert trio.current_time() - begun_at > 0.4


PINGS = frames.ping(b"12345678") * 1000
HEADS = b"".join(head(stream_id) for stream_id in range(1, 401, 2))
REFUSED = b"".join(head(stream_id, path=b"/no/such", ends=True) for stream_id in range(1, 401, 2))


@pytest.mark.parametrize("said", [PINGS, HEADS, REFUSED], ids=["pings", "heads", "refused"])
async def test_what_a_connection_owes_its_host_pays(said: bytes) -> None:
    """A client that is cut off, or goes, with frames that did nothing, does not begin anew with the next."""
    pace = Pace(TrioClock(), 0.001, 10)
    async with wired(limits(), pace=pace) as wire:
        await wire.say(BEGIN, said)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await wire.stream.aclose()
    assert pace.is_spent


async def test_who_is_served_owes_nothing() -> None:
    """Also with some PINGs, a call that is cancelled, and one for which the client does not wait."""
    pace = Pace(TrioClock(), 0.001, 10)
    async with wired(limits(), pace=pace) as wire:
        await wire.say(BEGIN, *(request(stream_id) for stream_id in range(1, 401, 2)))
        for _ in range(200):
            await wire.hear(DATA)
        await wire.say(PINGS[:170], head(401), frames.reset(401, ErrorCode.CANCEL), request(403))
        await wire.stream.aclose()
        await wire.ended.wait()
        assert wire.connection.was_of_use
    assert not pace.is_spent


# ---------------------------------------------------------------- idle, and the end


async def test_idle_and_busy() -> None:
    """Who keeps the connection is told of each change; a stream makes it busy as long as it is open."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, request())
        await wire.hear(DATA)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert wire.idle == [False, True]
        await wire.say(head(3, path=STREAM_PATH), data(message(b"a"), 3, ends=False), request(5))
        await wire.hear(DATA)
        await wire.hear(DATA)
        assert wire.idle == [False, True, False]
        await wire.say(data(b"", 3))
        await wire.hear(HEADERS)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert wire.idle == [False, True, False, True]


async def test_an_idle_connection_is_ended() -> None:
    """With GOAWAY and the last stream; the client may close first, and else has a moment to read it."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, request())
        await wire.hear(DATA)
        await trio.testing.wait_all_tasks_blocked(0.01)
        wire.connection.idle_for_long()
        _, _, _, payload = await wire.hear(GOAWAY)
        assert frames.read_go_away(payload)[:2] == (1, ErrorCode.NO_ERROR)
        await wire.say(request(3))  # on its way
        heard = await wire.hear_end()
        assert not any(kind == HEADERS and stream_id == 3 for kind, _, stream_id, _ in heard)


async def test_a_stop_before_the_connection_runs() -> None:
    """It ends at once."""
    async with wired(limits()) as wire:
        wire.connection.stop()
        assert code_of(await wire.hear_end()) == ErrorCode.NO_ERROR


async def test_the_preface_in_pieces() -> None:
    """Also what another reader has received already."""
    async with wired(limits(), first_bytes=BEGIN[:7]) as wire:
        for byte in BEGIN[7:] + request():
            await wire.say(bytes([byte]))
        assert (await wire.hear(DATA))[3] == message(b"x")


async def test_a_message_of_a_stream_that_is_none() -> None:
    """Its call ends with INTERNAL, in grpc-go's words."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, head(path=b"/test.Echo/Collect"), data(message(b"!no message")))
        assert (
            b"grpc: failed to unmarshal the received message it begins with !"
            in (await wire.hear(HEADERS))[3]
        )


async def test_a_handler_of_a_stream_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Its call ends with UNKNOWN after what it has sent, and the log says why."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, head(path=b"/test.Echo/Count"), data(message(b"no number")))
        assert b"bug" in (await wire.hear(HEADERS))[3]
        assert "/test.Echo/Count" in caplog.text
        await wire.say(request(3))
        assert (await wire.hear(DATA))[2] == 3


async def test_a_stream_that_is_reset_behind_a_message(caplog: pytest.LogCaptureFixture) -> None:
    """Its handler is cancelled; it is not told that the client's messages have ended well."""
    async with wired(limits()) as wire:
        await wire.say(BEGIN, head(path=b"/test.Echo/Count"))
        await trio.testing.wait_all_tasks_blocked(0.02)
        await wire.say(data(message(b"7"), ends=False), frames.reset(1, ErrorCode.CANCEL), request(3))
        assert (await wire.hear(DATA))[2] == 3
        assert not caplog.records


async def test_a_fault_while_a_response_is_being_sent() -> None:
    """What was being sent is sent whole before GOAWAY, so that the client can read it."""
    async with wired(limits(), buffer_bytes=4096) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"1000000")))
        await wire.hear(HEADERS)
        await wire.say(frames.frame(frames.PING, 0, 0, b"short"))
        await trio.testing.wait_all_tasks_blocked(0.02)
        heard = await wire.hear_end()
        assert sum(len(payload) for kind, _, _, payload in heard if kind == DATA) == 1_000_005
        assert code_of(heard) == ErrorCode.FRAME_SIZE_ERROR


async def test_a_stop_while_the_last_response_is_being_sent() -> None:
    """The response is sent whole, and then GOAWAY."""
    async with wired(limits(), buffer_bytes=4096) as wire:
        await wire.say(WIDE, head(path=b"/test.Echo/Big"), data(message(b"1000000")))
        await wire.hear(HEADERS)
        await trio.testing.wait_all_tasks_blocked(0.02)
        wire.connection.stop()
        await trio.testing.wait_all_tasks_blocked(0.02)
        heard = await wire.hear_end()
        assert sum(len(payload) for kind, _, _, payload in heard if kind == DATA) == 1_000_005
        assert code_of(heard) == ErrorCode.NO_ERROR
