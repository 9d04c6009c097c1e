"""Bugs in how the tasks of a node work together."""

from typing import Any

from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.snapshotter import Snapshotter
from raftkv_trio.node.steps import Steps, in_worker, wait
from raftkv_trio.peers.peers import Peers
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "tell-before-written",
    "the log writer reports a write as durable before it writes",
    LogWriter,
    "steps",
)
def _(original: Any) -> object:
    def steps(writer: Any) -> Steps[None]:
        while True:
            yield from wait(writer._wakeup)
            while (write := writer.take()) is not None:
                writer.written(write)
                yield from in_worker(writer.write, write)

    return steps


@bug(
    BUGS,
    "record-before-it-is-whole",
    "the log continues a snapshot before the snapshot's file is durable",
    Snapshotter,
    "_write",
)
def _(original: Any) -> object:
    def write(snapshotter: Any) -> Steps[None]:
        meta, envelope, chunks = snapshotter.begin()
        file = yield from in_worker(snapshotter._storage.begin_snapshot, meta, envelope)
        yield from in_worker(file.write, chunks)
        snapshotter.finished(meta)
        yield from in_worker(file.finish)

    return write


@bug(
    BUGS,
    "second-process-is-let-in",
    "of two processes under one id the newest connection counts, and nobody is told",
    Peers,
    "_process_objection",
    level=2,
)
def _(original: Any) -> object:
    async def process_objection(peers: Any, caller: object, host: str) -> None:
        return None

    return process_objection
