"""`raftkv-trio role`: the roles of a cluster, and what they permit."""

import os
from typing import Any

import click

from raftkv_trio.cli.auth.names import flag, name_argument
from raftkv_trio.cli.auth.questions import Question, question_command
from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import TO_THE_LAST, prefix_end


@click.group(no_args_is_help=False)
def role() -> None:
    """Add, change, show and delete roles."""


def _add(role_name: str) -> Question:
    """Add a role, which permits nothing yet."""
    from raftkv_trio.client.etcd.messages import ROLE_ADD
    from raftkv_trio.schema import rpc_pb2

    return Question(ROLE_ADD, rpc_pb2.AuthRoleAddRequest(name=role_name), f"Role {role_name} created")


def _delete(role_name: str) -> Question:
    """Delete a role, and take it from all users."""
    from raftkv_trio.client.etcd.messages import ROLE_DELETE
    from raftkv_trio.schema import rpc_pb2

    return Question(ROLE_DELETE, rpc_pb2.AuthRoleDeleteRequest(role=role_name), f"Role {role_name} deleted")


def _get(role_name: str) -> Question:
    """Print what a role permits."""
    from raftkv_trio.cli.auth.outputs import role_text
    from raftkv_trio.client.etcd.messages import ROLE_GET
    from raftkv_trio.schema import rpc_pb2

    return Question(
        ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role_name), lambda answer: role_text(role_name, answer)
    )


def _list() -> Question:
    """Print the names of all roles."""
    from raftkv_trio.cli.auth.outputs import lines
    from raftkv_trio.client.etcd.messages import ROLE_LIST
    from raftkv_trio.schema import rpc_pb2

    return Question(ROLE_LIST, rpc_pb2.AuthRoleListRequest(), lambda answer: lines(answer.roles))


def _grant_permission(role_name: str, access: str, **flags: Any) -> Question:
    """Permit to read or write KEY, or all keys from KEY up to, but not including, RANGE_END."""
    from raftkv_trio.client.etcd.messages import ROLE_GRANT_PERMISSION
    from raftkv_trio.schema import auth_pb2, rpc_pb2

    key, range_end = _range(**flags)
    if range_end not in (b"", TO_THE_LAST) and range_end <= key:
        # etcd 3.4 takes it, and it permits nothing. To revoke one must be possible there.
        raise ConfigError("the range is empty: RANGE_END must come after KEY")
    permission = auth_pb2.Permission(permType=access.upper(), key=key, range_end=range_end)
    request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role_name, perm=permission)
    return Question(ROLE_GRANT_PERMISSION, request, f"Role {role_name} updated")


def _revoke_permission(role_name: str, **flags: Any) -> Question:
    """Take the permission for exactly KEY, or exactly the keys from KEY up to RANGE_END, from a role."""
    from raftkv_trio.cli.auth.outputs import revoked_text
    from raftkv_trio.client.etcd.messages import ROLE_REVOKE_PERMISSION
    from raftkv_trio.schema import rpc_pb2

    key, range_end = _range(**flags)
    request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role_name, key=key, range_end=range_end)
    told = revoked_text(role_name, os.fsencode(flags["start"]), range_end)
    return Question(ROLE_REVOKE_PERMISSION, request, lambda _: told)


def _range(start: str, range_end: str | None, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """The range of a permission. Raises ConfigError if the flags do not fit together."""
    if prefix and from_key:
        raise ConfigError("--prefix and --from-key exclude each other; choose one")
    if (prefix or from_key) and range_end is not None:
        raise ConfigError("--prefix and --from-key end the range by themselves; leave RANGE_END out")
    key = os.fsencode(start)
    if not key and not (prefix or from_key):
        # etcdctl permits the key of one zero byte then, which is never what somebody means.
        raise ConfigError("KEY is empty; an empty KEY with --prefix is all keys")
    if from_key or (prefix and not key):
        return key or b"\0", TO_THE_LAST
    if prefix:
        return key, prefix_end(key)
    return key, b"" if range_end is None else os.fsencode(range_end)


def _range_parameters(what: str) -> list[click.Parameter]:
    return [
        click.Argument(["start"], metavar="KEY"),
        click.Argument(["range_end"], metavar="[RANGE_END]", required=False),
        flag("--prefix", f"{what} all keys that begin with KEY."),
        flag("--from-key", f"{what} all keys from KEY on."),
    ]


def _role_name() -> click.Argument:
    return name_argument("role_name", "ROLE")


for command in (
    question_command("add", [_role_name()], _add),
    question_command("delete", [_role_name()], _delete),
    question_command("get", [_role_name()], _get),
    question_command("list", [], _list),
    question_command(
        "grant-permission",
        [
            _role_name(),
            click.Argument(
                ["access"],
                type=click.Choice(["read", "write", "readwrite"], case_sensitive=False),
                metavar="read|write|readwrite",
            ),
            *_range_parameters("Permit it with"),
        ],
        _grant_permission,
    ),
    question_command(
        "revoke-permission", [_role_name(), *_range_parameters("Take that for")], _revoke_permission
    ),
):
    role.add_command(command)
