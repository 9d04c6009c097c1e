"""What a case has printed so far, and the logger through which a core prints into it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: From all to nothing. Under the last one nothing is printed but errors, not even by the commands.
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
_NAMES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERROR",
}


class Output:
    """Text of one case; `level` stays from case to case."""

    def __init__(self) -> None:
        self.level = "DEBUG"
        self._parts: list[str] = []
        self._error: str | None = None

    @property
    def quiet(self) -> bool:
        return self.level == "NONE"

    def write(self, text: str) -> None:
        if not self.quiet:
            self._parts.append(text)

    def log(self, level: str, text: str) -> None:
        if LEVELS.index(self.level) <= LEVELS.index(level):
            self.write(f"{level} {text}\n")

    def error(self, text: str) -> None:
        """What ended the case."""
        self._error = text

    def set_level(self, name: str) -> None:
        """Raises ValueError."""
        if name.upper() not in LEVELS:
            raise ValueError(f"log level {name} is none of {LEVELS}")
        self.level = name.upper()

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Indent by two, and end the last line."""
        outer, self._parts = self._parts, []
        try:
            yield
        finally:
            inner, self._parts = "".join(self._parts), outer
            self._parts += [f"  {line}\n" for line in inner.removesuffix("\n").split("\n") if inner]

    def take(self) -> str:
        """All that was printed; `ok` if nothing was."""
        text = "".join(self._parts) + (self._error or "")
        self._parts, self._error = [], None
        return text or "ok"


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.log(_NAMES[record.levelno], record.getMessage())


def core_logger(output: Output) -> logging.Logger:
    """A logger of no hierarchy that prints into `output`."""
    logger = logging.Logger("conformance", logging.DEBUG)
    logger.addHandler(_Handler(output))
    return logger
