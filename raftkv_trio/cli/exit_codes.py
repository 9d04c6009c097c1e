"""How an error ends the program: an exit code, and one sentence on standard error.

| code | meaning |
| --- | --- |
| 0 | a clean stop, or the command did what was asked |
| 1 | the disk, the system or a running cluster failed |
| 2 | the request cannot be carried out as given: a flag, a file or a name is wrong |
| 70 | a bug in this program |
| 129 | SIGHUP: the terminal of `lock`, `elect` or `watch` was closed before anything was held |
| 130, 143 | a second SIGINT or SIGTERM ended the program before it had stopped cleanly |

`exit_code_and_sentence` is the only function that maps errors to codes. The sentence is one line,
`raftkv-trio: ...`, and more lines, indented, if there is more to say, such as why each of several members did
nothing; or a log record with `--log-format json`. Tracebacks appear with `--log-level debug` only.
"""

import logging
import signal
import sys
import traceback
from typing import NoReturn

import click
from click.core import ParameterSource

from raftkv_trio.cli.shared_flags import naming_flags
from raftkv_trio.errors import ConfigError, RaftKVError, leaves
from raftkv_trio.logs import logs_json, say_last

logger = logging.getLogger(__name__)

PROGRAM = "raftkv-trio"
EXIT_FAILED, EXIT_USAGE, EXIT_BUG = 1, 2, 70


def exit_code_and_sentence(error: BaseException) -> tuple[int, str | None]:
    """The exit code and the sentence for an error; for a group, those of its worst error."""
    parts = list(leaves(error))
    for leaf in parts:
        if isinstance(leaf, KeyboardInterrupt):
            return 128 + signal.SIGINT, None
    for leaf in parts:
        if not isinstance(leaf, RaftKVError | OSError):
            what = _in_one_line(f"{type(leaf).__name__}: {leaf}".rstrip(": "))
            return EXIT_BUG, f"this is a bug; --log-level debug shows where: {what}"
    if all(isinstance(leaf, BrokenPipeError) for leaf in parts):
        return EXIT_FAILED, None  # who reads standard output has enough: as click has it outside of a group
    for leaf in parts:
        if not isinstance(leaf, ConfigError):
            return EXIT_FAILED, _sentence(leaf)
    first = parts[0]
    names_fields = isinstance(first, ConfigError) and first.fields
    return EXIT_USAGE, naming_flags(str(first)) if names_fields else str(first)


def _sentence(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def usage_sentence(error: click.UsageError) -> str:
    """The sentence for a command line that click refuses; it names the variable if that has the bad value."""
    context = error.ctx
    where = context.command_path if context else PROGRAM
    message = _in_one_line(error.format_message()).rstrip(".")
    if context and isinstance(error, click.BadParameter) and error.param and error.param.name:
        name = error.param.name
        if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            # Not every variable has the name of the parameter: some parameters are fields, with units.
            variable = error.param.envvar or f"{context.auto_envvar_prefix}_{name.upper()}"
            message += f" (from {variable})"
    return f"{message}{'' if message.endswith('?') else ';'} see {where} --help"


def exit_with(code: int, sentence: str | None = None, cause: BaseException | None = None) -> NoReturn:
    """End the process with this code, after printing the sentence if there is one: a line for each of its."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C from now on must not print a traceback
    if sentence is not None:
        text = "\n  ".join(map(_in_one_line, sentence.splitlines()))
        shown = cause if logger.isEnabledFor(logging.DEBUG) else None
        if logs_json():
            logger.critical(text, exc_info=shown)
        else:
            if shown is not None:
                say_last("".join(traceback.format_exception(shown)).rstrip())
            say_last(f"{PROGRAM}: {text}")
    sys.exit(code)
