"""What becomes of an error: an exit code and one sentence.

Exit codes: 0 a clean stop; 1 the disk, the system or a running cluster failed; 2 what was asked cannot be
done as it was asked; 70 a bug of ours; 130 and 143 a second SIGINT or SIGTERM that did not wait for a clean
stop. `verdict` is the one place where an error becomes a code and a sentence. The sentence is one line on
standard error, `raftkv-trio: ...`, or a record of the log where that is JSON; a traceback is only for
`--log-level debug`.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

import click
from click.core import ParameterSource

from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.logs import logs_json

logger = logging.getLogger(__name__)

PROGRAM = "raftkv-trio"
EXIT_FAILED, EXIT_USAGE, EXIT_BUG = 1, 2, 70


def verdict(error: BaseException) -> tuple[int, str | None]:
    """The exit code and the sentence for an error, the worst where it is a group of several."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt):
            return 128 + signal.SIGINT, None
    for leaf in leaves:
        if not isinstance(leaf, RaftKVError | OSError):
            what = f"{type(leaf).__name__}: {leaf}".rstrip(": ")
            return EXIT_BUG, f"this is a bug; --log-level debug shows where: {what}"
    for leaf in leaves:
        if not isinstance(leaf, ConfigError):
            return EXIT_FAILED, _sentence(leaf)
    return EXIT_USAGE, str(leaves[0])


def _sentence(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def usage_sentence(error: click.UsageError) -> str:
    context = error.ctx
    where = context.command_path if context else PROGRAM
    message = error.format_message().rstrip(".")
    if context and isinstance(error, click.BadParameter) and error.param and error.param.name:
        name = error.param.name
        if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            message += f" (from {context.auto_envvar_prefix}_{name.upper()})"
    return f"{message}{'' if message.endswith('?') else ';'} see {where} --help"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def exit_with(code: int, sentence: str | None = None, cause: BaseException | None = None) -> NoReturn:
    """End the process with that code, and say the sentence, if any."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a late Ctrl-C would get a traceback from the interpreter
    if sentence is not None:
        line = " ".join(sentence.split())
        shown = cause if logger.isEnabledFor(logging.DEBUG) else None
        if logs_json():
            logger.critical(line, exc_info=shown)
        else:
            if shown is not None:
                traceback.print_exception(shown)
            print(f"{PROGRAM}: {line}", file=sys.stderr)
    sys.exit(code)
