"""`raftkv-trio user`: the users of a cluster, and their roles."""

from typing import TYPE_CHECKING

import click

from raftkv_trio.cli.auth.names import flag, name_argument
from raftkv_trio.cli.auth.questions import Question, print_answer, question_command
from raftkv_trio.cli.keys.asking import key_command, run_with_client, standard_input
from raftkv_trio.cli.login import ask_for_new_password, one_line
from raftkv_trio.errors import ConfigError

if TYPE_CHECKING:
    from raftkv_trio.tls.clients import Trust


@click.group(no_args_is_help=False)
def user() -> None:
    """Add, change, show and delete users."""


def _add(
    names: tuple[str, ...], interactive: bool, new_user_password: str | None, no_password: bool
) -> Question:
    """Add a user without roles.

    The password is asked for twice, or read from standard input with --interactive=false. `user add
    NAME:PASSWORD` works too, where nobody else can read the command line.
    """
    name, password = _one(names), new_user_password
    if no_password and new_user_password is not None:
        raise ConfigError("--no-password and --new-user-password exclude each other; choose one")
    if not no_password and password is None:
        name, colon, rest = name.partition(":")
        password = rest if colon else _new_password(name, interactive)

    from raftkv_trio.client.etcd.auth import user_add_message
    from raftkv_trio.client.etcd.messages import USER_ADD

    request = user_add_message(_checked(name), None if no_password else _checked(password or "", "password"))
    return Question(USER_ADD, request, f"User {name} created")


def _passwd(names: tuple[str, ...], interactive: bool) -> Question:
    """Give a user another password.

    It is asked for twice, or read from standard input with --interactive=false.
    """
    name = _checked(_one(names))

    from raftkv_trio.client.etcd.messages import USER_CHANGE_PASSWORD
    from raftkv_trio.schema import rpc_pb2

    password = _new_password(name, interactive)
    request = rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password)
    return Question(USER_CHANGE_PASSWORD, request, "Password updated")


def _one(names: tuple[str, ...]) -> str:
    """The one name. Another argument may be a password, so no error shows it."""
    if len(names) != 1:
        raise ConfigError("this takes one argument, the name of a user; the password is asked for")
    return names[0]


def _checked(text: str, what: str = "name of the user") -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the {what} is not UTF-8; write it in UTF-8") from None
    return text


def _new_password(name: str, interactive: bool) -> str:
    if interactive:
        return ask_for_new_password(name)
    return one_line(standard_input(), "standard input")


def _delete(name: str) -> Question:
    """Delete a user."""
    from raftkv_trio.client.etcd.messages import USER_DELETE
    from raftkv_trio.schema import rpc_pb2

    return Question(USER_DELETE, rpc_pb2.AuthUserDeleteRequest(name=name), f"User {name} deleted")


def _get(
    endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, name: str, detail: bool
) -> int:
    """Print the roles of a user, and with --detail what they permit."""
    from raftkv_trio.cli.auth.outputs import role_text, user_text
    from raftkv_trio.client.etcd.client import Client, raw_call
    from raftkv_trio.client.etcd.messages import ROLE_GET, USER_GET
    from raftkv_trio.schema import rpc_pb2

    async def work(client: Client) -> None:
        with client.fail_after(timeout):
            answer = await raw_call(client, USER_GET, rpc_pb2.AuthUserGetRequest(name=name))
            if not detail:
                print_answer(answer, write_out, user_text(name, answer))
                return
            click.echo(f"User: {name}")
            for role in answer.roles:
                click.echo()
                found = await raw_call(client, ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role))
                print_answer(found, write_out, role_text(role, found))

    run_with_client(endpoints, trust, timeout, work)
    return 0


def _list() -> Question:
    """Print the names of all users."""
    from raftkv_trio.cli.auth.outputs import lines
    from raftkv_trio.client.etcd.messages import USER_LIST
    from raftkv_trio.schema import rpc_pb2

    return Question(USER_LIST, rpc_pb2.AuthUserListRequest(), lambda answer: lines(answer.users))


def _grant_role(name: str, role_name: str) -> Question:
    """Give a user a role."""
    from raftkv_trio.client.etcd.messages import USER_GRANT_ROLE
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role_name)
    return Question(USER_GRANT_ROLE, request, f"Role {role_name} is granted to user {name}")


def _revoke_role(name: str, role_name: str) -> Question:
    """Take a role from a user."""
    from raftkv_trio.client.etcd.messages import USER_REVOKE_ROLE
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.AuthUserRevokeRoleRequest(name=name, role=role_name)
    return Question(USER_REVOKE_ROLE, request, f"Role {role_name} is revoked from user {name}")


def _names(metavar: str) -> click.Argument:
    return click.Argument(["names"], metavar=metavar, nargs=-1)


def _interactive() -> click.Option:
    return click.Option(
        ["--interactive"],
        type=bool,
        default=True,
        show_default="true",
        allow_from_autoenv=False,
        metavar="true|false",
        help="Ask for the password at the terminal; false: read it from standard input.",
    )


for command in (
    question_command(
        "add",
        [
            _names("NAME"),
            _interactive(),
            click.Option(
                ["--new-user-password"], metavar="TEXT", allow_from_autoenv=False, help="The password."
            ),
            flag("--no-password", "The user has no password, and is known by a certificate only."),
        ],
        _add,
    ),
    question_command("passwd", [_names("NAME"), _interactive()], _passwd),
    question_command("delete", [name_argument("name", "NAME")], _delete),
    key_command(
        "get", [name_argument("name", "NAME"), flag("--detail", "Print what the roles permit.")], _get
    ),
    question_command("list", [], _list),
    question_command(
        "grant-role", [name_argument("name", "NAME"), name_argument("role_name", "ROLE")], _grant_role
    ),
    question_command(
        "revoke-role", [name_argument("name", "NAME"), name_argument("role_name", "ROLE")], _revoke_role
    ),
):
    user.add_command(command)
