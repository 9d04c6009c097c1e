"""Bugs in how the tasks of a node work together, which level 1 does not run."""

from typing import Any

from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.snapshotter import Snapshotter
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "tell-before-written",
    "the log writer tells that a write is durable before it is made",
    LogWriter,
    "run",
    level=2,
)
def _(original: Any) -> object:
    async def run(writer: Any) -> None:
        while True:
            await writer._wakeup.wait()
            while (write := writer.take()) is not None:
                writer.written(write)
                await writer._worker.run(writer.write, write)

    return run


@bug(
    BUGS,
    "record-before-it-is-whole",
    "the snapshotter has the log continue a snapshot before its file is durable",
    Snapshotter,
    "_write",
    level=2,
)
def _(original: Any) -> object:
    async def write(snapshotter: Any) -> None:
        meta, envelope, chunks = snapshotter.begin()
        file = await snapshotter._worker.run(snapshotter._storage.begin_snapshot, meta, envelope)
        await snapshotter._worker.run(file.write, chunks)
        snapshotter.finished(meta)
        await snapshotter._worker.run(file.finish)

    return write
