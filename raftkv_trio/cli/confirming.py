"""What a command asks before it does what cannot be undone."""

import sys

import click

from raftkv_trio.errors import ConfigError, RaftKVError


def confirm(why: str, warning: str, question: str) -> None:
    """Ask somebody at the terminal, and return if the answer is yes.

    Args:
        why: it is asked, as the beginning of a sentence.

    Raises ConfigError without a terminal, and RaftKVError if the answer is another one. Ctrl-C ends the
    program.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"{why}; confirm it with --yes")
    click.echo(warning, err=True)
    try:
        is_confirmed = click.confirm(question, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)
        is_confirmed = False
    if not is_confirmed:
        raise RaftKVError("nothing was changed")
