"""Bad requests at the REST port of a real process: it goes on serving good clients."""

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings

from raftkv_trio.cli.open_files import make_room_for_clients
from tests.cli.program import Node, serving_alone
from tests.http.crowd import Latencies, be_good, crowd, upload_and_stall
from tests.http.requests import Abuse, abuses
from tests.nonsense import exchange

STATUS = re.compile(rb"^HTTP/1\.1 (\d\d\d) ", re.MULTILINE)
DEADLINE_S = 60


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving_alone("--data-dir", "data", directory=tmp_path_factory.mktemp("abuse")) as node:
        node.wait_answer(200, "/-/ready")
        yield node


def port_of(node: Node) -> int:
    port = httpx.URL(node.url).port
    assert port is not None
    return port


def suffer(node: Node, abuse: Abuse) -> list[int]:
    """Send it, and return the statuses of the responses, if the client stays to read them."""
    received = exchange(port_of(node), abuse.pieces, DEADLINE_S, reads=abuse.reads)
    return [int(status) for status in STATUS.findall(received)]


def check_abuse(node: Node, client: httpx.Client, abuse: Abuse, number: int) -> int:
    """Abuse the node; check its answers, and that it serves a good client rightly. Returns how many came."""
    value = b"%d" % number
    assert client.put(f"/good/{number % 7}", content=value).status_code == 204
    statuses = suffer(node, abuse)
    assert 500 not in statuses
    assert client.get(f"/good/{number % 7}").content == value
    return len(statuses)


def answers_to_abuse(node: Node, examples: int) -> int:
    """Abuse it on so many connections; returns how many answers came."""
    answers, numbers = [], count()

    with httpx.Client(base_url=node.url, timeout=DEADLINE_S) as client:

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(abuses)
        def check(abuse: Abuse) -> None:
            answers.append(check_abuse(node, client, abuse, next(numbers)))

        check()
    assert node.process.poll() is None
    assert "unexpected error" not in node.said
    assert "Traceback" not in node.said
    return sum(answers)


def test_made_requests(node: Node) -> None:
    """Some 500 answers to every kind of nonsense, none a 500, while a good client is served."""
    assert answers_to_abuse(node, 500) > 400


@pytest.mark.long
def test_many_made_requests(node: Node) -> None:
    """The same with more than 10,000 answers."""
    assert answers_to_abuse(node, 10_000) > 10_000


# ---------------------------------------------------------------- idle and slow


def resident_bytes(node: Node) -> int:
    pages = int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def endure(node: Node, rounds: int) -> tuple[Latencies, Latencies]:
    """A good client's latencies alone, and among 1,000 idle and 100 slow clients; memory is checked."""
    make_room_for_clients(1200)
    alone = await be_good(node.url, rounds)
    before = resident_bytes(node)
    async with crowd(port_of(node), idle=1000, slow=100):
        crowded = await be_good(node.url, rounds)
        assert resident_bytes(node) - before < 100_000_000
        assert len(os.listdir(f"/proc/{node.process.pid}/fd")) > 1000  # most of them are there all the time
    assert node.process.poll() is None
    assert "unexpected error" not in node.said
    return alone, crowded


async def test_a_crowd(node: Node) -> None:
    """A good client is served among 1,000 idle and 100 slow ones, within 100 MB more."""
    await endure(node, 50)


async def test_stalled_uploads(node: Node) -> None:
    """Of 500 MB of values that arrive at once and are never whole, most are refused, and a part is held."""
    answers: list[bytes] = []
    before = resident_bytes(node)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(upload_and_stall, port_of(node), answers.append)
            while len(answers) < 400:  # noqa: ASYNC110 - the others' bytes are held, or still on their way
                await trio.sleep(0.01)
            assert resident_bytes(node) - before < 300_000_000
            nursery.cancel_scope.cancel()
    assert any(answer.startswith(b"HTTP/1.1 429 ") for answer in answers)
    async with httpx.AsyncClient(base_url=node.url, timeout=DEADLINE_S) as client:
        while (await client.put("/good", content=b"v")).status_code == 429:
            pass  # until what was held is given back
    await be_good(node.url, 2)
    assert "unexpected error" not in node.said


@pytest.mark.timing
async def test_latency_in_a_crowd(node: Node) -> None:
    """Among them a good client's latency is less than doubled."""
    alone, crowded = await endure(node, 1000)
    assert crowded.median_s < 2 * alone.median_s
    assert crowded.p95_s < 2 * alone.p95_s
