"""The names of users and roles as arguments, and flags without variables."""

import os

import click


def _name(value: str) -> str:
    """The type of an argument: a name, which is UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{os.fsencode(value)!r} is not UTF-8; write it in UTF-8") from None
    return value


def name_argument(parameter: str, metavar: str) -> click.Argument:
    """The name of a user or a role."""
    return click.Argument([parameter], type=_name, metavar=metavar)


def flag(name: str, help: str) -> click.Option:
    """A switch."""
    return click.Option([name], is_flag=True, allow_from_autoenv=False, help=help)
