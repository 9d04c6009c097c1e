"""More writes than three real nodes can take: they refuse, and neither grow, nor elect, nor forget."""

import hashlib
from collections import Counter
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.testing import (
    ABSENT,
    History,
    Register,
    RegisterAnswer,
    RegisterGet,
    RegisterPut,
    Seen,
    check_linearizable,
)
from tests.integration.clients import RegisterHistory
from tests.integration.cluster import Cluster
from tests.rest.serving import Wire

#: What a node may hold beside its log and its revisions: 8 MiB of proposals, 32 MiB for each of two peers and
#: 8 MiB from them, a batch under way to disk and state machine each, and the buffers of its connections.
ELSE_BYTES = 128 * 1024 * 1024


class Flood:
    """Clients that write large values, each to a key of its own, as fast as they are answered."""

    def __init__(self, cluster: Cluster, history: RegisterHistory, value_bytes: int) -> None:
        self._cluster = cluster
        self._value_bytes = value_bytes
        self._history = history
        self.statuses: Counter[int] = Counter()
        self.is_over = False

    async def write(self, node_id: int, key: str) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self._cluster.rest_port(node_id))
        async with stream:
            wire = Wire(stream)
            while not self.is_over:
                value = f"{key} {sum(self.statuses.values())} ".encode().ljust(self._value_bytes, b".")
                operation = self._history.invoke(key, key, RegisterPut(digest(value)))
                length = b"Content-Length: %d" % len(value)
                answer = await wire.ask(b"PUT " + key.encode(), length, content=value)
                self.statuses[answer.status] += 1
                if answer.status == 204:
                    self._history.complete(
                        operation, RegisterAnswer(revision=int(answer.headers["ETag"].strip('"')))
                    )
                elif answer.status == 429:
                    assert "Retry-After" in answer.headers
                    self._history.fail(operation)
                    await trio.sleep(float(answer.headers["Retry-After"]))
                else:
                    assert answer.status == 504, answer
                    self._history.give_up(operation)


@pytest.mark.parametrize(
    ("clients", "value_bytes", "load_s"),
    [(100, 300_000, 4), pytest.param(500, 100_000, 30, marks=pytest.mark.long)],
)
async def test_a_flood_of_writes(
    cluster: Cluster, http: httpx.AsyncClient, clients: int, value_bytes: int, load_s: float
) -> None:
    """Every write is answered 204, 429 or 504, memory is bounded, no leader changes, and nothing is lost."""
    history: RegisterHistory = History(trio.current_time)
    flood = Flood(cluster, history, value_bytes)
    await cluster.wait_ready(http)
    terms = await of_all(cluster, http, "term")
    memory = [peak_memory(cluster.pid(node_id)) for node_id in cluster.ids]
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(flood.write, number % 3 + 1, f"/flood-{number}")
        await trio.sleep(load_s)
        flood.is_over = True
    assert flood.statuses[204] > 0
    assert flood.statuses[429] > 0
    assert await of_all(cluster, http, "term") == terms
    # Both are kept in memory, and hold each value once: the log until a snapshot replaces it, and the store,
    # which keeps the revisions of the past until a compaction.
    log_bytes = history_bytes = value_bytes * max(await of_all(cluster, http, "last_index"))
    for node_id, before in zip(cluster.ids, memory, strict=True):
        grown = peak_memory(cluster.pid(node_id)) - before
        assert grown < log_bytes + history_bytes + ELSE_BYTES

    cluster.kill()
    cluster.start()
    await cluster.wait_ready(http)
    for number in range(clients):
        operation = history.invoke("reader", f"/flood-{number}", RegisterGet())
        got = await http.get(cluster.url(number % 3 + 1, f"/flood-{number}"))
        seen = ABSENT if got.status_code == 404 else Seen(True, digest(got.content))
        history.complete(operation, RegisterAnswer(seen=seen))
    check_linearizable(history, Register())


async def of_all(cluster: Cluster, http: httpx.AsyncClient, field: str) -> list[int]:
    return [int((await cluster.status(http, node_id))[field]) for node_id in cluster.ids]


def digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def peak_memory(pid: int) -> int:
    """The most bytes that a process has had in memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024
