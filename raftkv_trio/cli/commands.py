"""All commands, and the one place where they are run and their errors end the program."""

import signal
import sys
from typing import NoReturn

import click

from raftkv_trio._version import __version__
from raftkv_trio.cli.auth.commands import auth
from raftkv_trio.cli.auth.roles import role
from raftkv_trio.cli.auth.users import user
from raftkv_trio.cli.bench import bench
from raftkv_trio.cli.cert import cert
from raftkv_trio.cli.exit_codes import (
    EXIT_USAGE,
    PROGRAM,
    exit_code_and_sentence,
    exit_with,
    usage_sentence,
)
from raftkv_trio.cli.first_signals import raise_keyboard_interrupt
from raftkv_trio.cli.keys.commands import TAKE_BYTES, compact, del_, get, put, txn
from raftkv_trio.cli.keys.leasing import elect, lease, lock
from raftkv_trio.cli.keys.watching import watch
from raftkv_trio.cli.local import local
from raftkv_trio.cli.member import member
from raftkv_trio.cli.offline import check, restore
from raftkv_trio.cli.online import backup, snapshot, status
from raftkv_trio.cli.serve import serve
from raftkv_trio.cli.shared_flags import check_utf_8
from raftkv_trio.cli.simulate import simulate


def run_command() -> NoReturn:
    """Run the command that argv names, and exit."""
    raise_keyboard_interrupt()
    try:
        check_utf_8([] if sys.argv[1:2] and sys.argv[1] in TAKE_BYTES else sys.argv[1:])
        # Not standalone: every error ends in one of the branches below.
        code = program.main(prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        exit_with(EXIT_USAGE, usage_sentence(error))
    except click.ClickException as error:
        exit_with(EXIT_USAGE, error.format_message())
    except click.Abort:
        exit_with(128 + signal.SIGINT)
    except SystemExit:
        raise  # from click: the reader of standard output has closed it
    except BaseException as error:
        exit_with(*exit_code_and_sentence(error), error)
    exit_with(code or 0)


class _Grouped(click.Group):
    """A group whose help lists the commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(command.name or "", command.get_short_help_str(limit=100)) for command in commands]
                )


GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Run nodes": (serve, local),
    "Read and write keys": (put, get, del_, txn, compact, watch),
    "Coordinate": (lease, lock, elect),
    "Say who may do what": (user, role, auth),
    "Make certificates": (cert,),
    "Ask a running cluster": (status, member, snapshot, backup),
    "Work on the directory of a stopped node": (check, restore),
    "Measure and test": (bench, simulate),
}


@click.group(
    name=PROGRAM,
    cls=_Grouped,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def program() -> None:
    """A replicated key-value store: Raft on Trio, with the command line of etcd's raftexample."""


for grouped in GROUPS.values():
    for command in grouped:
        program.add_command(command)
