"""The command `watch`, in etcdctl's shape: it prints events, and may run a command for each of them."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from raftkv_trio.cli.keys.asking import key_command, run_with_client, what_to_do
from raftkv_trio.cli.keys.requests import watch_parameters, watch_request
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.foreign_text import printable
from raftkv_trio.logs import say_last

if TYPE_CHECKING:
    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.client.etcd.watch_responses import WatchResponses
    from raftkv_trio.schema import rpc_pb2
    from raftkv_trio.tls.clients import Trust

_READ_BYTES, _MOST_LINE_BYTES = 64 * 1024, 1024 * 1024


class CommandWithSeparator(click.Command):
    """A command that takes another one after `--`, as the parameter `command`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before, after = args, None
        if "--" in args:
            at = args.index("--")
            before, after = args[:at], args[at + 1 :]
        rest = super().parse_args(ctx, before)
        if after == []:
            raise click.UsageError("there is no command after '--'", ctx)
        ctx.params["command"] = after or []
        return rest


def _watch(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    write_out: str,
    interactive: bool,
    command: list[str],
    **flags: Any,
) -> int:
    """Print the events of KEY, or of all keys from KEY up to, but not including, RANGE_END, as they happen.

    With `-- COMMAND` that command is run for each event, one after the other; the variables
    ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE say what has happened.

    With `-i` lines of standard input begin watches: `watch [FLAGS] KEY [RANGE_END] [-- COMMAND]`. The line
    `progress` prints up to which revision all events have been printed.

    The watch goes on, without a gap or a repeat, if members fail; it ends with a signal.
    """
    wanted = []
    if not interactive:
        wanted.append(_Wanted(watch_request(**flags), command))
    elif command or any(value for value in flags.values()):
        raise ConfigError("with -i the keys and flags of watches are on lines of standard input")

    async def work(client: "Client") -> int:
        return await _Watching(client, timeout, write_out).run(wanted)

    return run_with_client(endpoints, trust, timeout, work)


watch = key_command(
    "watch",
    [
        *watch_parameters(),
        click.Option(
            ["-i", "--interactive"], is_flag=True, allow_from_autoenv=False, help="Take watches from input."
        ),
    ],
    _watch,
    kind=CommandWithSeparator,
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A watch.

    Attributes:
        command: that is run for each event; none if empty.
    """

    request: "rpc_pb2.WatchCreateRequest"
    command: Sequence[str]


class _Watching:
    """The watches of one run."""

    def __init__(self, client: "Client", timeout: float, write_out: str) -> None:
        from raftkv_trio.cli.keys.children import Children

        self._client = client
        self._timeout_s = timeout
        self._write_out = write_out
        self._children: Children = Children()
        self._begun: list[WatchResponses] = []

    async def run(self, wanted: Sequence[_Wanted]) -> int:
        """Print until a signal comes, or standard input ends if watches are to be read there."""
        import trio

        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                await self._children.wait_over()
                nursery.cancel_scope.cancel()

            await nursery.start(self._children.follow_signals)
            nursery.start_soon(end_on_signal)
            for each in wanted:
                nursery.start_soon(self._print, each)
            if not wanted:
                await self._read_lines(nursery)
                nursery.cancel_scope.cancel()
        return 128 + self._children.number if self._children.number is not None else 0

    async def _print(self, wanted: _Wanted) -> None:
        """Print the events of one watch. Raises what ends it."""
        from raftkv_trio.client.etcd.client import raw_watch
        from raftkv_trio.client.etcd.outcomes import CallRefused

        responses = raw_watch(self._client, wanted.request)
        try:
            with self._client.fail_after(self._timeout_s):
                await responses.begin()
            self._begun.append(responses)
            while True:
                response = await responses.receive()
                self._echo(response)
                if wanted.command:
                    await self._run_for(wanted.command, response)
        except CallRefused as error:
            if responses.canceled is not None and self._write_out == "json":
                self._echo(responses.canceled)
            raise ConfigError(f"watch was canceled ({error}){what_to_do(error)}") from error
        finally:
            await responses.close()

    def _echo(self, response: "rpc_pb2.WatchResponse") -> None:
        from raftkv_trio.cli.keys.outputs import rendered

        text = rendered(response, self._write_out)
        if not response.events and not response.canceled:
            text = b"progress notify: %d\n%b" % (response.header.revision, text)
        click.echo(text, nl=False)

    async def _run_for(self, command: Sequence[str], response: "rpc_pb2.WatchResponse") -> None:
        from raftkv_trio.cli.keys.outputs import event_type, quoted

        for event in response.events:
            variables = {
                "ETCD_WATCH_REVISION": b"%d" % response.header.revision,
                "ETCD_WATCH_EVENT_TYPE": quoted(event_type(event).encode()),
                "ETCD_WATCH_KEY": quoted(event.kv.key),
                "ETCD_WATCH_VALUE": quoted(event.kv.value),
            }
            code = await self._children.run(command, variables)
            if code and self._children.number is None:
                raise RaftKVError(f"the command {printable(command[0])} ended with exit code {code}")

    # ------------------------------------------------------------ lines of standard input

    async def _read_lines(self, nursery: Any) -> None:
        """Do what each line says. A line that is wrong is told on standard error, and ends nothing."""
        import trio

        buffered = b""
        while len(buffered) < _MOST_LINE_BYTES:
            # Not by `sys.stdin`: a thread that waits in it would hold up the end of the process.
            more = await trio.to_thread.run_sync(os.read, 0, _READ_BYTES, abandon_on_cancel=True)
            *lines, buffered = (buffered + more).split(b"\n")
            if not more:
                lines = [buffered]
            for line in lines:
                try:
                    await self._do(os.fsdecode(line).strip(), nursery)
                except ConfigError as error:
                    say_last(f"raftkv-trio: {error}")
            if not more:
                return
        raise ConfigError("a line of standard input is too long")

    async def _do(self, line: str, nursery: Any) -> None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"cannot read the line '{printable(line)}': {error}") from error
        match words[:1]:
            case []:
                pass
            case ["watch"]:
                nursery.start_soon(self._print_or_say, _wanted_by(words[1:]))
            case ["progress"]:
                for responses in self._begun:
                    await responses.request_progress()
            case _:
                raise ConfigError(f"unknown line '{printable(line)}'; lines are `watch KEY` and `progress`")

    async def _print_or_say(self, wanted: _Wanted) -> None:
        try:
            await self._print(wanted)
        except ConfigError as error:
            say_last(f"raftkv-trio: {error}")


def _wanted_by(words: list[str]) -> _Wanted:
    command = CommandWithSeparator("watch", params=watch_parameters(), add_help_option=False)
    try:
        flags = dict(command.make_context("watch", words).params)
    except click.UsageError as error:
        raise ConfigError(" ".join(error.format_message().split())) from error
    executed = flags.pop("command")
    return _Wanted(watch_request(**flags), executed)
