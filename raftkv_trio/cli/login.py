"""As which user a command asks a cluster: the flags, and where the password comes from.

- As etcdctl has it: `--user NAME:PASSWORD`, or `--user NAME` and `--password PASSWORD`; without a password it
  is asked for, at a terminal that does not show it. And `--password-file`, since a command line can be read
  by everybody on the machine.
- With a password from somewhere else, all of `--user` is the name, colons included.
- No password is in an error or a log line.
"""

import sys
from collections.abc import Callable
from functools import partial, wraps
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import read_user_file

if TYPE_CHECKING:
    from raftkv_trio.client.login import Login

MAX_PASSWORD_FILE_BYTES = 4096
#: Flags whose values may be, or have in them, a password.
SECRET_FLAGS = ("--user", "--password", "--new-user-password")
_KEY = f"{__name__}.given"


class _Given(NamedTuple):
    user: str | None
    password: str | None
    password_file: Path | None


_option = partial(click.option, show_envvar=True)
_LOGIN_FLAGS = (
    _option(
        "--user",
        envvar="RAFTKV_TRIO_USER",
        metavar="NAME[:PASSWORD]",
        help="User of a cluster that checks users. Without a password it is asked for.",
    ),
    _option("--password", envvar="RAFTKV_TRIO_PASSWORD", metavar="TEXT", help="Password of the user."),
    _option(
        "--password-file",
        envvar="RAFTKV_TRIO_PASSWORD_FILE",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="File of the password; others must not read it.",
    ),
)


def login_options(command: Callable[..., int]) -> Callable[..., int]:
    """The flags that say who asks; `login_of_flags` has what they say."""

    @wraps(command)
    def with_login(
        *, user: str | None, password: str | None, password_file: Path | None, **values: Any
    ) -> int:
        click.get_current_context().meta[_KEY] = _Given(user, password, password_file)
        return command(**values)

    decorated: Callable[..., int] = with_login
    for decorate in reversed(_LOGIN_FLAGS):
        decorated = decorate(decorated)
    return decorated


def login_of_flags(*, needs_tls: bool = False) -> "Login | None":
    """The user that the flags of the present command name; None if they name none. Asks for a password.

    Args:
        needs_tls: as that of `Login`.

    Raises ConfigError if the flags do not fit together, or there is no password.
    """
    from raftkv_trio.client.login import Login

    given: _Given = click.get_current_context().meta[_KEY]
    if not given.user:
        for name, flag in (("password", "--password"), ("password_file", "--password-file")):
            if _source_of(name) is ParameterSource.COMMANDLINE:
                raise ConfigError(f"{flag} is the password of a user; give --user too")
        return None
    user, password = given.user, _password(given)
    if password is None:
        user, colon, password = given.user.partition(":")
        if not colon:
            password = _asked("Password: ", _WHERE_FROM.format(user=user))
    return Login(user=user, password=password, needs_tls=needs_tls)


def named_user() -> str | None:
    """Who asks, for a message, by the flags of the present command; nothing is asked for.

    A name ends at its colon here, since what follows is a password, at least if somebody gave that twice.
    """
    given: _Given = click.get_current_context().meta[_KEY]
    return (given.user or "").partition(":")[0] or None


_WHERE_FROM = (
    "there is no password of user {user}, and standard input is no terminal to ask for it; give it with"
    " --password-file, or the variable RAFTKV_TRIO_PASSWORD"
)


def _source_of(name: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(name)


def _password(given: _Given) -> str | None:
    """The password that a flag or a variable gives by itself; a flag counts more than a variable."""
    if given.password and given.password_file is not None:
        sources = [_source_of("password"), _source_of("password_file")]
        if sources[0] is sources[1]:
            raise ConfigError("there is a password, and a file of a password; give one of them")
        if sources[0] is ParameterSource.COMMANDLINE:
            return given.password
    if given.password_file is not None:
        return read_password(given.password_file)
    return given.password or None


def read_password(path: Path) -> str:
    """The password in a file, without the end of its line.

    Raises ConfigError if the file cannot be read, others may read or change it, or it has several lines.
    """
    called = f"--password-file {path}"
    try:
        data = read_user_file(path, max_bytes=MAX_PASSWORD_FILE_BYTES, is_private=True, called=called)
    except FileNotFoundError:
        raise ConfigError(f"{called} does not exist") from None
    return one_line(data, called)


def one_line(data: bytes, called: str) -> str:
    """The one line of some input, without its end. Raises ConfigError if it is none, or not UTF-8."""
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if not line.strip():
        raise ConfigError(f"{called} has no password")
    if b"\n" in line or b"\0" in line:
        raise ConfigError(f"{called} has more than a line, so it is no password")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{called} is not UTF-8; write it in UTF-8") from None  # the cause would show it


def _asked(prompt: str, otherwise: str) -> str:
    """What somebody types at the terminal, unseen. Without one, ConfigError says `otherwise`."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(otherwise)
    try:
        return getpass(prompt)
    except EOFError:
        raise ConfigError("the input ended before the password") from None


def ask_for_new_password(user: str) -> str:
    """The password that a user is to get, typed twice. Raises ConfigError without a terminal."""
    otherwise = (
        "standard input is no terminal to ask for a password; with --interactive=false it is read from"
        " standard input"
    )
    password = _asked(f"Password of {user}: ", otherwise)
    if not password:
        raise ConfigError("the password is empty; type one")
    if password != _asked(f"Type password of {user} again for confirmation: ", otherwise):
        raise ConfigError("the passwords are different; type the same one twice")
    return password
