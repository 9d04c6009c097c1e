"""The log: written by a thread, from a bounded queue, so that its reader holds up nobody."""

import logging
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raftkv_trio.logs import MAX_WAITING_CHARACTERS, QueuedHandler, TextFormatter, dropped_records


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that takes no more bytes until it is read; writing to it blocks."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, bytes(4096))
        except BlockingIOError:
            os.set_blocking(writer, True)
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "raftkv_trio.a", "levelname": "INFO", "msg": message})


def test_what_is_dropped_is_told() -> None:
    """Beyond the bound records are dropped; when the reader reads again, their number is in the log."""
    with full_pipe() as (reader, writer):
        handler = QueuedHandler(writer)
        handler.setFormatter(TextFormatter())
        text = "x" * 10_000
        count = 2 * MAX_WAITING_CHARACTERS // len(text)
        for _ in range(count):
            handler.handle(record(text))
        started_at = time.monotonic()
        handler.flush()
        assert time.monotonic() - started_at < 10, "a flush waits for the reader, but not for long"
        received, arrived, told = b"", 0, 0
        while arrived + told < count:
            assert select.select([reader], [], [], 10)[0], f"{arrived} arrived, {told} told of {count}"
            received += os.read(reader, 65536)
            arrived = received.count(b"x\n")
            told = sum(map(int, re.findall(rb"WARNING raftkv_trio.logs: (\d+) log records were", received)))
        assert arrived + told == count
        assert 0 < arrived < count
        assert handler.dropped_ever == told


def test_what_cannot_be_written_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose reader is gone takes nothing; whoever asks for the metric hears of it."""
    reader, writer = os.pipe()
    os.close(reader)
    handler = QueuedHandler(writer)
    handler.setFormatter(TextFormatter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for _ in range(3):
        handler.handle(record("x"))
        handler.flush()
    os.close(writer)
    assert dropped_records()["unread"] == 3


def test_records_arrive_in_order_after_a_flush() -> None:
    """What was logged before a flush is there after it, also where the reader is a non-blocking file."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = QueuedHandler(writer)
    handler.setFormatter(TextFormatter())
    for number in range(100):
        handler.handle(record(f"number {number}"))
    handler.flush()
    os.close(writer)
    with open(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [line.rpartition(b" ")[2] for line in lines] == [b"%d" % number for number in range(100)]
