"""The `raftkv-trio` program: commands, flags, exit codes. The only reader of argv, environment and signals.

Each module holds commands of one kind, and `commands.py` has them all; `exit_codes.py` turns errors into exit
codes and sentences. What a command does not need it does not import.
"""

from typing import NoReturn

from raftkv_trio.cli.first_signals import end_at_once_on_signals


def main() -> NoReturn:
    """Run the command that argv names, and exit."""
    # Before the imports, which take a good part of a second: PID 1 of a container has no default actions, so
    # that a signal without a handler would be lost.
    end_at_once_on_signals()

    from raftkv_trio.cli.commands import run_command

    run_command()
