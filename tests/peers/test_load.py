"""Attacks that load a node: its loop is not held up, it hardly grows, honest clients hardly wait."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import httpx
import pytest
import trio

from tests.integration.cluster import Cluster
from tests.peers.attackers import ATTACKS, OF_CLIENTS, files_of
from tests.peers.hostile import besieged
from tests.rest.serving import Wire

HOSTILE = 3
ATTACK_S = 1.0
#: The loop is never held up for so long, which is a fifth of an election timeout. Processor time counts, and
#: the same work takes up to twice as much of it on a core that shares its caches with another busy one.
HELD_S = 0.2
#: So many entries a leader can be made to send again and again.
LOG_ENTRIES = 3000
GROWTH_BYTES = 100_000_000
#: Attacks of which the metric shows that they have begun.
REFUSED = ("hellos", "terms", "contexts", "collisions", "items", "lists", "nested", "snapshots-on-stream")
#: Attacks that are made over TLS too: what handshakes cost, what none costs, and a flood of a member.
OVER_TLS = ("hellos", "half-open", "heartbeats")
ROUNDS = 5
ROUND_S = 2.0


@asynccontextmanager
async def attacking(
    attack: str,
    address: str,
    node_id: int,
    cluster_id: int,
    term: int,
    *,
    client_port: int = 1,
    niceness: int = 0,
    files: Sequence[str] = (),
) -> AsyncIterator[None]:
    """An attacker's process, which attacks all the time; `files`: see `attackers`."""
    arguments = [attack, address, str(node_id), str(cluster_id), str(HOSTILE), str(client_port), str(term)]
    arguments += files
    command = ["nice", "-n", str(niceness), sys.executable, "-m", "tests.peers.attackers", *arguments]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE))
        assert await process.stdout.receive_some()
        yield
        assert process.returncode is None
        nursery.cancel_scope.cancel()


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) * 1024


class LoopWatch(trio.abc.Instrument):
    """Measures each pass of the loop, from where it has looked for input to where it looks again.

    In processor time of this thread: what other processes of the machine do does not count.

    Attributes:
        longest_s: of all passes but one. One pass may hold a full garbage collection, which takes as long as
            all that lives in the process is large, with or without an attack. What an attack costs shows in
            other passes too, since each attack repeats itself.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._exception_s = 0.0
        self._begun_at: float | None = None

    def after_io_wait(self, timeout: float) -> None:
        self._begun_at = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if self._begun_at is not None:
            taken_s = time.thread_time() - self._begun_at
            self.longest_s = max(self.longest_s, min(taken_s, self._exception_s))
            self._exception_s = max(taken_s, self._exception_s)


@pytest.mark.parametrize(
    ("security", "attack"),
    [("tcp", name) for name in ATTACKS if name not in OF_CLIENTS] + [("mtls", name) for name in OVER_TLS],
    indirect=["security"],
)
@pytest.mark.usefixtures("security")
async def test_an_attack_does_not_hold_up_the_loop(tmp_path: Path, attack: str) -> None:
    """Of a leader: it goes on leading, takes commands, and grows by less than 100 MB."""
    async with besieged(tmp_path) as siege:
        async with trio.open_nursery() as nursery:
            for _ in range(LOG_ENTRIES):
                nursery.start_soon(siege.propose, b"")
        leader = await siege.leader()
        node_id, terms = leader.config.node_id, siege.terms()
        gc.collect()
        gc.freeze()  # what a whole test run has made is no node's
        before = resident_bytes(os.getpid())
        watch = LoopWatch()
        address = siege.addresses[node_id].url.removeprefix("http://")
        files = [*files_of(siege.stranger(node_id).tls), *files_of(siege.member(node_id).tls)]
        async with attacking(attack, address, node_id, siege.cluster_id, terms[node_id], files=files):
            came = leader.running.measures().refusals
            if attack in REFUSED:
                await siege.until(lambda: leader.running.measures().refusals != came)
            trio.lowlevel.add_instrument(watch)
            over_at = trio.current_time() + ATTACK_S
            while trio.current_time() < over_at:
                await siege.propose(b"%d" % len(siege.acknowledged))
            trio.lowlevel.remove_instrument(watch)
            assert resident_bytes(os.getpid()) - before < GROWTH_BYTES
        gc.unfreeze()
        assert watch.longest_s < HELD_S
        await siege.check_unharmed(terms=terms)
        await siege.check_starts_again()


# ---------------------------------------------------------------- latency, of real processes


class Latencies(NamedTuple):
    """In seconds."""

    median_s: float
    p99_s: float
    longest_s: float

    @classmethod
    def of(cls, taken: list[float]) -> "Latencies":
        cuts = quantiles(taken, n=100)
        return cls(cuts[49], cuts[98], max(taken))


async def ask_often(
    port: int, line: bytes, content: bytes, taken: list[float], is_over: Callable[[], bool]
) -> None:
    """Ask again and again, on one connection; note how long each answer takes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        wire = Wire(stream)
        while not is_over():
            begun_at = time.perf_counter()
            answer = await wire.ask(line, b"Content-Length: %d" % len(content), content=content)
            taken.append(time.perf_counter() - begun_at)
            assert answer.status in (200, 204), answer
            await trio.sleep(0.001)


async def ask_for_a_while(port: int, writes: list[float], probes: list[float]) -> None:
    """Write, and ask for the health meanwhile."""
    over_at = trio.current_time() + ROUND_S

    def is_over() -> bool:
        return trio.current_time() > over_at

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_often, port, b"PUT /good", b"good", writes, is_over)
        nursery.start_soon(ask_often, port, b"GET /-/healthy", b"", probes, is_over)


@pytest.mark.timing
@pytest.mark.parametrize("attack", ATTACKS)
async def test_honest_clients_hardly_wait_longer(
    tmp_path: Path, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The median of a write at the leader is less than doubled, and no answer of it takes 100 ms more."""
    cluster = Cluster(tmp_path)
    quiet: tuple[list[float], list[float]] = [], []
    loud: tuple[list[float], list[float]] = [], []
    try:
        cluster.start(1, 2)
        async with httpx.AsyncClient() as http:
            await cluster.wait_ready(http)
            leader = await cluster.leader(http)
            status = await cluster.status(http, leader)
            port, pid = cluster.rest_port(leader), cluster.pid(leader)
            address = cluster.peer_url(leader).removeprefix("http://")
            await ask_for_a_while(port, [], [])
            before = resident_bytes(pid)
            for _ in range(ROUNDS):  # in turn, since the machine may be busy at times
                await ask_for_a_while(port, *quiet)
                # At a low priority: the attacker of a real network does not take the node's processor.
                cluster_id = int(status["cluster_id"], 16)
                async with attacking(
                    attack, address, leader, cluster_id, status["term"], client_port=port, niceness=19
                ):
                    await ask_for_a_while(port, *loud)
                    grown = resident_bytes(pid) - before
                assert grown < GROWTH_BYTES
            assert (await cluster.status(http, leader))["term"] == status["term"]
    finally:
        cluster.kill()
    (writes, probes), (loud_writes, loud_probes) = map(Latencies.of, quiet), map(Latencies.of, loud)
    with capsys.disabled():
        print(f"\n{attack}: grown by {grown / 1e6:.1f} MB")
        for what, alone, attacked in ("writes", writes, loud_writes), ("probes", probes, loud_probes):
            print(
                what, *[f"{1000 * a:.1f} -> {1000 * b:.1f} ms" for a, b in zip(alone, attacked, strict=True)]
            )
    assert loud_writes.median_s < 2 * writes.median_s
    assert loud_probes.longest_s < probes.longest_s + HELD_S
