"""The commands `lease ...`, `lock` and `elect`, in etcdctl's shape."""

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from raftkv_trio.cli.keys.asking import echo, key_command, run_with_client
from raftkv_trio.cli.keys.lease_outputs import lease_text
from raftkv_trio.cli.shared_flags import integer_from
from raftkv_trio.errors import ConfigError, NoLeader
from raftkv_trio.logs import say_last

if TYPE_CHECKING:
    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.tls.clients import Trust

_MAX_INT = 2**63 - 1


def _lease_id(value: str) -> int:
    """The type of an argument: the id of a lease, in hexadecimal."""
    try:
        number = int(value, 16)
    except ValueError:
        number = -1
    if not 0 <= number <= _MAX_INT:
        raise click.BadParameter(f"{value!r} is not a hexadecimal number below 8000000000000000")
    return number


def _id_argument() -> click.Argument:
    return click.Argument(["lease_id"], type=_lease_id, metavar="ID")


def _flag(name: str, help: str, *more: str) -> click.Option:
    return click.Option([*more, name], is_flag=True, allow_from_autoenv=False, help=help)


def _ask(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    work: "Callable[[Client], Awaitable[Any]]",
) -> Any:
    async def ask(client: "Client") -> Any:
        with client.fail_after(timeout):
            return await work(client)

    return run_with_client(endpoints, trust, timeout, ask)


# ---------------------------------------------------------------- lease


def _grant(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, ttl: int) -> int:
    """Grant a lease of TTL seconds, and print its id."""
    from raftkv_trio.client.etcd import leases

    answer = _ask(endpoints, trust, timeout, lambda client: leases.grant(client._calls, ttl))
    click.echo(lease_text(answer, write_out), nl=False)
    return 0


def _revoke(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, lease_id: int) -> int:
    """End the lease ID, and delete its keys."""
    from raftkv_trio.client.etcd import leases

    answer = _ask(endpoints, trust, timeout, lambda client: leases.revoke(client._calls, lease_id))
    click.echo(lease_text(answer, write_out, lease_id=lease_id), nl=False)
    return 0


def _timetolive(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    write_out: str,
    lease_id: int,
    keys: bool,
) -> int:
    """Print what the lease ID has left, and with --keys its keys."""
    from raftkv_trio.client.etcd.client import raw_call
    from raftkv_trio.client.etcd.messages import LEASE_TIME_TO_LIVE
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
    answer = _ask(endpoints, trust, timeout, lambda client: raw_call(client, LEASE_TIME_TO_LIVE, request))
    click.echo(lease_text(answer, write_out, keys=keys), nl=False)
    return 0


def _list(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Print the ids of all leases."""
    from raftkv_trio.client.etcd.client import raw_call
    from raftkv_trio.client.etcd.messages import LEASE_LIST
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.LeaseLeasesRequest()
    answer = _ask(endpoints, trust, timeout, lambda client: raw_call(client, LEASE_LIST, request))
    click.echo(lease_text(answer, write_out), nl=False)
    return 0


def _keep_alive(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    write_out: str,
    lease_id: int,
    once: bool,
) -> int:
    """Keep the lease ID alive, until a signal comes or it has ended.

    While no member renews the lease, it is tried again, until the TTL after the last renewal is over.
    """
    import trio

    from raftkv_trio.client.etcd.leases import keep_alive

    async def work(client: "Client") -> int:
        with client.fail_after(timeout):
            answer, sent_at = await keep_alive(client._calls, lease_id)
        while True:
            if answer.TTL <= 0 and once:
                raise ConfigError("etcdserver: requested lease not found")
            if answer.TTL > 0 or write_out in ("simple", "table"):  # as etcdctl has it
                click.echo(lease_text(answer, write_out, lease_id=lease_id), nl=False)
            if once or answer.TTL <= 0:
                return 0
            await trio.sleep_until(sent_at + answer.TTL / 3)
            try:
                with client.fail_after(max(timeout, sent_at + answer.TTL - trio.current_time())):
                    answer, sent_at = await keep_alive(client._calls, lease_id, answer.TTL / 3)
            except NoLeader as error:
                _, newline, reasons = str(error).partition("\n")
                since_s = trio.current_time() - sent_at
                sentence = f"lease {lease_id:016x} may have expired: not renewed for {since_s:.0f} s"
                raise NoLeader(f"{sentence}{newline}{reasons}") from error

    return run_with_client(endpoints, trust, timeout, work)


@click.group(no_args_is_help=False)
def lease() -> None:
    """Grant, keep alive, revoke and show leases."""


for command in (
    key_command(
        "grant", [click.Argument(["ttl"], type=integer_from(-_MAX_INT, _MAX_INT), metavar="TTL")], _grant
    ),
    key_command("revoke", [_id_argument()], _revoke),
    key_command(
        "timetolive", [_id_argument(), _flag("--keys", "Show the keys of the lease, too.")], _timetolive
    ),
    key_command("list", [], _list),
    key_command("keep-alive", [_id_argument(), _flag("--once", "Renew it once.")], _keep_alive),
):
    lease.add_command(command)


# ---------------------------------------------------------------- lock and elect


class _Interruptible:
    """Work that SIGINT, SIGTERM or SIGHUP ends cleanly.

    Attributes:
        children: the commands that it runs.
        is_reached: whether it has what it waited for: a signal is its regular end then.
    """

    def __init__(self) -> None:
        from raftkv_trio.cli.keys.children import Children

        self.children: Children = Children()
        self.is_reached = False

    async def run(self, client: "Client", patience_s: float, work: Callable[[], Awaitable[int]]) -> int:
        """Run it; its exit code, or 128 plus the number of the signal that has come before `is_reached`.

        If no member has answered after `patience_s`, standard error says so, and the work goes on.
        """
        import trio

        code = 0
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                await self.children.wait_over()
                if not self.command_runs:
                    nursery.cancel_scope.cancel()

            await nursery.start(self.children.follow_signals)
            nursery.start_soon(end_on_signal)
            nursery.start_soon(_say_if_unanswered, client, patience_s)
            code = await work()
            nursery.cancel_scope.cancel()
        if self.children.number is not None and not self.is_reached:
            return 128 + self.children.number
        return code

    #: While a command runs, a signal is for that command alone.
    command_runs = False


async def _say_if_unanswered(client: "Client", patience_s: float) -> None:
    """Say after a time that no member has answered: else it looks like a lock that somebody holds.

    Once is enough: later, a lease that nobody renews ends what waits, or leads, in its TTL.
    """
    import trio

    from raftkv_trio.client.etcd.client import failures_so_far

    await trio.sleep(patience_s)
    failures = failures_so_far(client)
    if failures is not None:
        sentence = f"raftkv-trio: no answer within {patience_s:g} s; still trying"
        say_last("\n  ".join([sentence, *(f"{url}: {why}" for url, why in failures.items())]))


async def _show(client: "Client", key: bytes, write_out: str, revision: int = 0) -> None:
    """Print a key as `get` does."""
    from raftkv_trio.client.etcd.client import raw_call
    from raftkv_trio.client.etcd.messages import RANGE
    from raftkv_trio.schema import rpc_pb2

    answer = await raw_call(client, RANGE, rpc_pb2.RangeRequest(key=key, revision=revision))
    echo(answer, write_out)


class _CommandWithCommand(click.Command):
    """A command that takes another one, whose own flags come after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.possibilities:  # it is a flag of this one, misspelt
                raise
            message = error.format_message().rstrip(".")
            raise click.UsageError(f"{message}; flags of the command to run come after '--'", ctx) from error


def _lock(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    write_out: str,
    name: str,
    command: tuple[str, ...],
    ttl: int,
) -> int:
    """Hold the lock NAME until a signal comes, or while COMMAND runs.

    The command has the variables ETCD_LOCK_KEY and ETCD_LOCK_REV, and its exit code is that of `lock`. Its
    own flags come after `--`. If the lock is lost, the command gets SIGTERM.
    """
    import trio

    async def work(client: "Client") -> int:
        interruptible = _Interruptible()

        async def hold() -> int:
            async with client.lock(os.fsencode(name), ttl_s=ttl) as lock:
                interruptible.is_reached = True
                if command:
                    interruptible.command_runs = True
                    variables = {"ETCD_LOCK_KEY": lock.key, "ETCD_LOCK_REV": b"%d" % lock.revision}
                    return await interruptible.children.run(command, variables, has_input=True)
                await _show(client, lock.key, write_out)
                await trio.sleep_forever()
            raise AssertionError("the block does not end by itself")

        return await interruptible.run(client, timeout, hold)

    return run_with_client(endpoints, trust, timeout, work)


def _elect(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    write_out: str,
    name: str,
    value: str | None,
    listen: bool,
    ttl: int,
) -> int:
    """Wait until elected in the election NAME, and lead with VALUE until a signal comes.

    With --listen, print the leaders as they change.
    """
    import trio

    if listen == (value is not None):
        raise ConfigError("an election needs a VALUE, or --listen, and not both")

    async def work(client: "Client") -> int:
        interruptible = _Interruptible()
        election = client.election(os.fsencode(name))

        async def observe() -> int:
            interruptible.is_reached = True
            async with election.observe() as leaders:
                async for leader in leaders:
                    await _show(client, leader.key, write_out, leader.mod_revision)
            return 0

        async def lead() -> int:
            async with election.campaign(os.fsencode(value or ""), ttl_s=ttl) as leadership:
                interruptible.is_reached = True
                await _show(client, leadership.key, write_out)
                await trio.sleep_forever()
            raise AssertionError("the block does not end by itself")

        return await interruptible.run(client, timeout, observe if listen else lead)

    return run_with_client(endpoints, trust, timeout, work)


def _ttl_option(default: int) -> click.Option:
    return click.Option(
        ["--ttl"],
        type=integer_from(1, _MAX_INT),
        default=default,
        show_default=True,
        allow_from_autoenv=False,
        metavar="SECONDS",
        help="How long after the death of this program others may follow.",
    )


def _name() -> click.Argument:
    return click.Argument(["name"], metavar="NAME")


lock = key_command(
    "lock",
    [
        _name(),
        click.Argument(["command"], nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]"),
        _ttl_option(10),
    ],
    _lock,
    kind=_CommandWithCommand,
)
elect = key_command(
    "elect",
    [
        _name(),
        click.Argument(["value"], metavar="[VALUE]", required=False),
        _flag("--listen", "Print leaders, and be no candidate.", "-l"),
        _ttl_option(60),
    ],
    _elect,
)
