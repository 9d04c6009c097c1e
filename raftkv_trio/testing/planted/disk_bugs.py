"""Bugs in the log on the disk, and in its recovery at a start."""

from collections.abc import Sequence
from typing import Any

from raftkv_trio.node import log_writer, parts
from raftkv_trio.node.log_writer import Append
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import HardState, Message
from raftkv_trio.storage import log_reader
from raftkv_trio.storage.record import HEADER_BYTES, Header
from raftkv_trio.storage.wal import WriteAheadLog
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(BUGS, "skip-fsync", "the log is written and not synced", WriteAheadLog, "_sync")
def _(original: Any) -> object:
    return lambda log: None


@bug(BUGS, "skip-directory-sync", "a new segment's name is not synced", WriteAheadLog, "_cut")
def _(original: Any) -> object:
    class CarelessDisk:
        def __init__(self, disk: object) -> None:
            self._disk = disk

        def __getattr__(self, name: str) -> object:
            return getattr(self._disk, name)

        def sync_directory(self, path: object) -> None:
            pass

    def cut(log: Any, *arguments: Any) -> None:
        disk, log._disk = log._disk, CarelessDisk(log._disk)
        try:
            original(log, *arguments)
        finally:
            log._disk = disk

    return cut


@bug(BUGS, "trust-page-cache", "a start takes all that it reads for durable", WriteAheadLog, "recover")
def _(original: Any) -> object:
    class UnsyncedFile:
        def __init__(self, file: object) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def datasync(self) -> None:
            pass

    class UnsyncedDisk:
        def __init__(self, disk: Any) -> None:
            self._disk = disk

        def __getattr__(self, name: str) -> object:
            return getattr(self._disk, name)

        def open(self, path: object, **how: object) -> object:
            return self._disk.open(path, **how) if how else UnsyncedFile(self._disk.open(path))

        def sync_directory(self, path: object) -> None:
            pass

    def recover(log: Any) -> None:
        disk, log._disk = log._disk, UnsyncedDisk(log._disk)
        try:
            original(log)
        finally:
            log._disk = disk
            if isinstance(log._file, UnsyncedFile):
                log._file = log._file._file

    return recover


@bug(BUGS, "forget-vote", "the vote is forgotten when a node restarts", parts, "recovered_log")
def _(original: Any) -> object:
    def recovered_log(storage: Any) -> MemoryStorage:
        log: MemoryStorage = original(storage)
        hard_state, _ = log.initial_state()
        log.set_hard_state(HardState(hard_state.term, None, hard_state.commit))
        return log

    return recovered_log


@bug(
    BUGS,
    "accept-truncated-log",
    "a record that does not verify is always taken for a torn end",
    log_reader,
    "is_torn",
)
def _(original: Any) -> object:
    return lambda data, offset, segment: True


@bug(BUGS, "skip-crc", "a record's CRC is not compared", log_reader, "decode_payload")
def _(original: Any) -> object:
    def decode_payload(data: bytes, offset: int, header: Header, segment: int) -> bytes:
        return data[offset + HEADER_BYTES : offset + HEADER_BYTES + header.length]

    return decode_payload


@bug(
    BUGS,
    "merge-without-cutting",
    "overwritten entries are written together with their replacement",
    log_writer,
    "merge_appends",
)
def _(original: Any) -> object:
    def merge_appends(batch: Sequence[Message]) -> Append:
        append: Append = original(batch)
        return append._replace(entries=[entry for message in batch for entry in message.entries])

    return merge_appends
