"""The Procfile: lines of the form `name: command`, as foreman, goreman and honcho read them."""

import re
from collections.abc import Iterable

from raftkv_trio.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*([^\0]+)")


def parse_procfile(text: str) -> dict[str, str]:
    """Shell commands by process name, in the file's order; blank lines and `#` comments are skipped.

    Raises ConfigError for any other line, a repeated name, or a file without processes. goreman and honcho
    ignore malformed lines; then a process is missing without any message.
    """
    commands: dict[str, str] = {}
    for number, raw_line in enumerate(text.split("\n"), start=1):
        line = raw_line.strip()
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise ConfigError(f"line {number} of the Procfile is not of the form name: command")
        name, command = parts.groups()
        if name in commands:
            raise ConfigError(f"line {number} of the Procfile names {name} a second time")
        commands[name] = command
    if not commands:
        raise ConfigError("the Procfile names no process")
    return commands


def check_names(names: Iterable[str], commands: Iterable[str]) -> list[str]:
    """Each of `names` once, or all names of the Procfile if `names` is empty.

    Raises ConfigError for a name that is not in the Procfile.
    """
    known = list(commands)
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no process is named {name!r}; the Procfile names {', '.join(known)}")
    return wanted or known
