"""Users of a served node: root, and ann, who may do everything with keys that begin with /a."""

import base64

from raftkv_trio.access.credentials.passwords import Passwords
from raftkv_trio.kv import (
    Access,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    EnableAuth,
    GrantPermission,
    GrantRole,
    Permission,
    encode_command,
)
from raftkv_trio.kv.auth.commands import Actor
from tests.rest.serving import Served

ROOT, ANN = ("root", "root: the password"), ("ann", "Anns Paßwort")
#: Who changes users, where they are checked.
ACTOR = Actor("root", 2**40)
RIGHT = Permission(Access.READWRITE, b"/a", b"/b")


def basic(user: tuple[str, str]) -> dict[str, str]:
    """The field of a user who sends the password."""
    return {"Authorization": "Basic " + base64.b64encode(":".join(user).encode()).decode()}


async def change(served: Served, *commands: AuthCommand) -> None:
    """Change users as root."""
    for command in commands:
        applied = await served.replicated.write(encode_command(command, ACTOR))
        assert isinstance(applied.result, AuthChanged), applied.result


async def add_users(served: Served, *, enable: bool = True) -> None:
    """Add both, and have users checked from now on."""
    passwords = Passwords()
    records = [await passwords.record_of(password, "") for _, password in (ROOT, ANN)]
    await change(
        served,
        AddUser("root", records[0]),
        GrantRole("root", "root"),
        AddUser("ann", records[1]),
        AddRole("a"),
        GrantRole("ann", "a"),
        GrantPermission("a", RIGHT),
        *((EnableAuth(),) if enable else ()),
    )
