"""`raftkv-trio auth`: whether a cluster checks users."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftkv_trio.cli.auth.questions import print_answer
from raftkv_trio.cli.confirming import confirm
from raftkv_trio.cli.keys.asking import ask_one, key_command, run_with_client
from raftkv_trio.cli.login import named_user
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable

if TYPE_CHECKING:
    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.tls.clients import Trust


@click.group(no_args_is_help=False)
def auth() -> None:
    """Check users, or do not; see whether they are checked."""


_NOT_PROVED = (
    "{user} has another password, or has not got the role root; give --user root, and its password, which"
    " `raftkv-trio user passwd root` changes while users are not checked"
)


def _enable(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Check users from now on.

    The user root must exist, and gets the role root. raftkv-trio wants `--user root`: nobody else could
    change users afterwards.
    """
    from raftkv_trio.client.etcd.outcomes import NotAuthenticated, PermissionDenied, shows_nobody

    async def work(client: "Client") -> None:
        try:
            with client.fail_after(timeout):
                await client.auth.enable()
        except (NotAuthenticated, PermissionDenied) as error:
            user = named_user()
            if user is not None and shows_nobody(error.text):  # no token was had for the password
                raise ConfigError(_NOT_PROVED.format(user=printable(user))) from error
            sentence = "only who proves to be root can have users checked; give --user root, and its password"
            raise ConfigError(f"{error.text}: {sentence}") from error

    run_with_client(endpoints, trust, timeout, work)
    click.echo("Authentication Enabled")  # in all formats, as etcdctl has it
    return 0


def _disable(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Check users no more: everybody may do everything. Users and roles stay."""
    from raftkv_trio.client.etcd.messages import AUTH_DISABLE
    from raftkv_trio.schema import rpc_pb2

    ask_one(endpoints, trust, timeout, AUTH_DISABLE, rpc_pb2.AuthDisableRequest())
    click.echo("Authentication Disabled")
    return 0


def _status(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Print whether users are checked, and the revision of users and roles.

    etcd answers from version 3.5 on.
    """
    from raftkv_trio.client.etcd.client import raw_call
    from raftkv_trio.client.etcd.messages import AUTH_STATUS
    from raftkv_trio.client.etcd.outcomes import CallRefused
    from raftkv_trio.grpc import Code
    from raftkv_trio.schema import rpc_pb2

    async def work(client: "Client") -> rpc_pb2.AuthStatusResponse:
        try:
            with client.fail_after(timeout):
                return await raw_call(client, AUTH_STATUS, rpc_pb2.AuthStatusRequest())
        except CallRefused as error:
            if error.code != Code.UNIMPLEMENTED:
                raise
            sentence = "the server does not tell; raftkv-trio does from 0.2 on, and etcd from 3.5 on"
            raise ConfigError(f"{sentence} ({error})") from error
        raise AssertionError("`fail_after` raises")

    answer = run_with_client(endpoints, trust, timeout, work)
    is_enabled = "true" if answer.enabled else "false"
    simple = f"Authentication Status: {is_enabled}\nAuthRevision: {answer.authRevision}"
    print_answer(answer, write_out, simple.encode())
    return 0


@auth.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset(directory: Path, yes: bool) -> int:
    """Get in again when nobody can prove to be root.

    DIR is the data directory of one stopped member. When that member runs again, and the cluster has a
    leader, the cluster stops checking users; all of them stay. Then change root's password, and enable
    authentication again. Until then everybody who reaches a member may do everything.

    If users or roles are changed before that member runs again, nothing happens; its log says so.
    """
    from raftkv_trio.offline.reset_auth import reset_auth

    if not yes:
        confirm(
            "this lets everybody do everything",
            "Everybody who reaches a member may do everything, until you enable it again.",
            "Stop checking users?",
        )
    done = reset_auth(directory)
    click.echo(
        f"{directory}: users are checked no more as soon as node {done.node_id} runs again and has a leader\n"
        f"users with the role root: {', '.join(map(printable, done.roots))}\n"
        "then: raftkv-trio user passwd root; raftkv-trio auth enable --user root"
    )
    return 0


for command in (
    key_command("enable", [], _enable),
    key_command("disable", [], _disable),
    key_command("status", [], _status),
):
    auth.add_command(command)
