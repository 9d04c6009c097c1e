"""`raftkv-trio local`: a cluster on this machine."""

import os
import shlex
import shutil
import signal
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from raftkv_trio.cli.exit_codes import PROGRAM, exit_with
from raftkv_trio.cli.shared_flags import procfile_option
from raftkv_trio.errors import ConfigError


@click.group(no_args_is_help=False)
def local() -> None:
    """Run a cluster on this machine."""


@local.command("start")
@procfile_option
@click.argument("names", metavar="[NAME]...", nargs=-1)
def local_start(procfile: Path, names: tuple[str, ...]) -> int:
    """Start the Procfile's processes.

    Without a NAME all processes are started. Ctrl-C stops all of them, a second Ctrl-C kills them. If this
    command itself is killed with SIGKILL, the processes go on running; stop each of them by its pid.
    """
    import trio

    from raftkv_trio.cli.signals import run_until_signal
    from raftkv_trio.local.supervisor import run_local

    if sys.stdout is None:
        raise ConfigError("local start needs a standard output, and that is closed")
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    async def run(stop: trio.Event) -> int:
        return await run_local(
            procfile, names, environment=environment, output=sys.stdout.fileno(), color=color, stop=stop
        )

    # A terminal that is closed must not leave them running. Under nohup SIGHUP is ignored.
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    hangup = (signal.SIGHUP,) if hangs_up else ()
    with own_program_in_path() as path:
        environment = {**os.environ, "PATH": path}
        return run_until_signal(run, (signal.SIGINT, signal.SIGTERM, *hangup), second_cancels=True)


@contextmanager
def own_program_in_path() -> Iterator[str]:
    """The PATH for processes that run `raftkv-trio`: they find this program, wherever it is installed.

    The programs of this interpreter's environment come first: it need not be activated. If the program is not
    among them, as after `pip install --user`, a script that runs it is made for the time.
    """
    scripts = sysconfig.get_path("scripts")
    path = os.environ.get("PATH", os.defpath)
    if shutil.which(PROGRAM, path=scripts):
        yield os.pathsep.join([scripts, path])
        return
    with TemporaryDirectory(prefix="raftkv-trio-") as directory:
        script = Path(directory) / PROGRAM
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m raftkv_trio "$@"\n')
        script.chmod(0o700)
        yield os.pathsep.join([directory, scripts, path])


@local.command("run")
@procfile_option
@click.option(
    "--signal",
    "signal_name",
    type=click.Choice(["INT", "TERM", "KILL"], case_sensitive=False),
    default="INT",
    show_default=True,
    help="Signal that stop and restart send; SIGKILL follows after 10 s.",
)
@click.argument("verb", type=click.Choice(["start", "stop", "restart", "list", "status"]))
@click.argument("names", metavar="[NAME]...", nargs=-1)
def local_run(procfile: Path, signal_name: str, verb: str, names: tuple[str, ...]) -> int:
    """Act on processes of the running local cluster.

    Without a NAME the command applies to all processes. It returns when the processes have ended or started;
    nodes have started when they serve.
    """
    from raftkv_trio.local.control import Request, call

    answer = call(procfile.parent, Request(verb, names, signal.Signals[f"SIG{signal_name}"]))
    if answer.exit_code:
        exit_with(answer.exit_code, answer.text)
    click.echo(answer.text)
    return 0
