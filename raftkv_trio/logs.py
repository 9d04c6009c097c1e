"""The log of the program: one line per record on standard error, as text or as JSON.

Only the command line calls `setup_logging`. A program that embeds a node keeps its own logging.

A thread writes the lines, from a bounded queue: a terminal that takes no output (Ctrl-S), or a pipe that
nobody reads, must not hold up the event loop. If the queue is full a record is dropped, and the log tells how
many were.
"""

import json
import logging
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from threading import Condition, Thread
from typing import Literal

from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import LimitedLog, escaped

LogFormat = Literal["text", "json"]
LOG_LEVELS = ("debug", "info", "warning", "error")
_PACKAGE = logging.getLogger("raftkv_trio")

#: `extra` of a record whose message has fields of a configuration in backticks, as a ConfigError has.
NAMES_FIELDS = {"names_fields": True}
MAX_WAITING_CHARACTERS = 1024 * 1024
FLUSH_S = 0.5


class TextFormatter(logging.Formatter):
    """`2026-07-01T12:00:00.000Z INFO raftkv_trio.peers.peers: message`, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        # A message may have text that a peer or a client sent, and so may an exception.
        message = escaped(record.getMessage())
        line = f"{_rfc3339(record.created)} {record.levelname} {record.name}: {message}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line = "\n".join([line, *map(escaped, lines)])
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `timestamp` (RFC 3339), `level`, `logger`, `message`, `exception` if any."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "timestamp": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class QueuedHandler(logging.Handler):
    """Writes records to a file descriptor in a thread. No method waits for the reader, except `flush`.

    Attributes:
        dropped_ever: how many lines could not be written.

    Args:
        fd: None if there is nothing to write to; then all is discarded.
    """

    def __init__(self, fd: int | None) -> None:
        super().__init__()
        self._lines: deque[str] = deque()
        self._waiting_characters = 0
        self._dropped = 0
        self.dropped_ever = 0
        self._changed = Condition()
        if fd is not None:
            # A daemon: a thread that is stuck in a write must not hold up the end of the process.
            Thread(target=self._write_lines, args=(fd,), name="log", daemon=True).start()
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it if the queue is full."""
        try:
            self.write(self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, line: str) -> None:
        """Queue a line without its newline, or drop it if the queue is full."""
        if self._fd is None:
            return
        with self._changed:
            if self._lines and self._waiting_characters + len(line) > MAX_WAITING_CHARACTERS:
                self._dropped += 1
                self.dropped_ever += 1
                return
            self._lines.append(line)
            self._waiting_characters += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, for half a second at most. `logging` calls this at exit."""
        self.flush_within(FLUSH_S)

    def flush_within(self, seconds: float) -> None:
        """Wait until all is written, or until the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, seconds)

    def _write_lines(self, fd: int) -> None:
        has_failed = False
        while True:
            with self._changed:
                # After a failure the next record is the next attempt.
                while not self._lines and (has_failed or not self._dropped):
                    self._changed.wait()
                lines = list(self._lines)
                count = len(lines)
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(self._tell_dropped(dropped))
            data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            try:
                write_all(fd, data)
            except OSError:
                # A full disk, or a reader that is gone: there is no other place to tell it.
                self.dropped_ever += count
                dropped += count
                has_failed = True
            else:
                dropped = 0
                has_failed = False
            with self._changed:
                # Only now: while these are being written, they count as waiting.
                for _ in range(count):
                    self._waiting_characters -= len(self._lines.popleft())
                self._dropped += dropped
                self._changed.notify_all()

    def _tell_dropped(self, count: int) -> str:
        message = f"{count} log records were dropped, because standard error was not read"
        warning = {"name": __name__, "levelname": "WARNING", "levelno": logging.WARNING, "msg": message}
        return self.format(logging.makeLogRecord(warning))


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, waiting for room even if the file is non-blocking; raises OSError.

    Another program that shares a terminal or a pipe may have made it non-blocking.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def setup_logging(log_format: LogFormat, level: str, name_fields: Callable[[str], str]) -> None:
    """Send this package's records of `level` and above, and the libraries' warnings, to standard error.

    Args:
        log_format: `text` or `json`.
        level: see `set_log_level`.
        name_fields: replaces the names of fields in a message by what the user has to change.
    """
    # Python gives None if it was closed; its number may then belong to another file.
    handler = QueuedHandler(None if sys.stderr is None else sys.stderr.fileno())
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(partial(_name_fields, name_fields))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_log_level(level)


def _name_fields(name_fields: Callable[[str], str], record: logging.LogRecord) -> bool:
    if getattr(record, "names_fields", False):
        record.msg, record.args = name_fields(record.getMessage()), ()
    return True


def set_log_level(level: str) -> None:
    """Log this package's records of `level` and above; raises ConfigError if there is no such level."""
    if level.lower() not in LOG_LEVELS:
        raise ConfigError(f"{level[:20]!r} is not a log level; use one of {', '.join(LOG_LEVELS)}")
    _PACKAGE.setLevel(level.upper())


def log_level() -> str:
    """The level from which on this package's records are logged."""
    return logging.getLevelName(_PACKAGE.getEffectiveLevel()).lower()


def logs_json() -> bool:
    """Whether `setup_logging` chose JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def dropped_records() -> dict[str, int]:
    """How many records of this process are not in its log, by reason.

    `limited`: of lines that others can cause at will there is one an interval. `unread`: nobody read the log,
    or it could not be written.
    """
    unread = sum(handler.dropped_ever for handler in _queued_handlers())
    return {"limited": LimitedLog.left_out, "unread": unread}


def say_last(line: str) -> None:
    """Write a line to standard error as it is; if the program logs, after all records and without waiting."""
    handlers = _queued_handlers()
    for handler in handlers:
        handler.write(line)
    if not handlers:
        print(line, file=sys.stderr)


def flush_log(seconds: float) -> None:
    """Wait until all that was logged is written, or until the time is over. `logging` does it at exit."""
    for handler in _queued_handlers():
        handler.flush_within(seconds)


def _queued_handlers() -> list[QueuedHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, QueuedHandler)]


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
