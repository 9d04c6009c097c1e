"""How this program logs: one line a record on standard error, as text or as JSON.

A library user keeps the logging of their own program; only the CLI calls `setup_logging`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from raftkv_trio.errors import ConfigError

LogFormat = Literal["text", "json"]
LOG_LEVELS = ("debug", "info", "warning", "error")
_PACKAGE = logging.getLogger("raftkv_trio")

# What a peer or a client sent may stand in a message; it must not forge lines nor drive a terminal.
_CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}


class TextFormatter(logging.Formatter):
    """`2026-07-01T12:00:00.000Z INFO raftkv_trio.peers.peers: message`, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().translate(_CONTROL_CHARACTERS)
        line = f"{_rfc3339(record.created)} {record.levelname} {record.name}: {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `timestamp` (RFC 3339), `level`, `logger`, `message`, `exception` if any."""

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


def setup_logging(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send this package's records of `level` and above, and the libraries' warnings, to one handler.

    Args:
        log_format: `text` or `json`.
        level: see `set_log_level`.
        stream: standard error where not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Log this package's records of `level` and above; raises ConfigError where there is no such level."""
    if level.lower() not in LOG_LEVELS:
        raise ConfigError(f"{level[:20]!r} is no log level; there are {', '.join(LOG_LEVELS)}")
    _PACKAGE.setLevel(level.upper())


def log_level() -> str:
    """The least level of this package's records that are logged."""
    return logging.getLevelName(_PACKAGE.getEffectiveLevel()).lower()


def logs_json() -> bool:
    """Whether `setup_logging` chose JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
