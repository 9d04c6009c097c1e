"""The store's auth beside that of a real etcd: the same commands have the same effects, by the same names.

etcd 3.4 knows more than one thing that the store does otherwise, on purpose: see ARCHITECTURE.md. Here only
what both do alike is drawn.
"""

import json
from base64 import b64encode, urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from raftkv_trio.kv import (
    ROOT,
    Actor,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    ChangePassword,
    Compare,
    Delete,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Failed,
    Failure,
    Get,
    GrantPermission,
    GrantRole,
    InvalidTxn,
    Operation,
    Put,
    ResetAuth,
    RevokePermission,
    RevokeRole,
    Store,
    Txn,
    TxnResult,
    encode_command,
)
from raftkv_trio.state_machine import Committed
from tests.etcd.servers import needs_etcd, open_etcd
from tests.kv.auth.drawing import RECORD, AuthDrawing

PASSWORD = "secret"
#: How authentication is enabled, whatever there was; some of it may fail.
AS_ROOT: list[AuthCommand] = [DeleteUser(ROOT), AddUser(ROOT, RECORD), GrantRole(ROOT, ROOT), EnableAuth()]
FAILURES = {
    "user name is empty": Failure.USER_EMPTY,
    "user name already exists": Failure.USER_EXISTS,
    "user name not found": Failure.USER_NOT_FOUND,
    "role name already exists": Failure.ROLE_EXISTS,
    "role name not found": Failure.ROLE_NOT_FOUND,
    "role name is empty": Failure.ROLE_EMPTY,
    "role is not granted to the user": Failure.ROLE_NOT_GRANTED,
    "permission is not granted to the role": Failure.PERMISSION_NOT_GRANTED,
    "permission denied": Failure.PERMISSION_DENIED,
    "root user does not exist": Failure.ROOT_USER_NOT_FOUND,
    "root user does not have root role": Failure.ROOT_ROLE_NOT_GRANTED,
    "invalid auth management": Failure.INVALID_AUTH_MANAGEMENT,
}


class Etcd:
    """A real one, asked in JSON."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def close(self) -> None:
        self._http.close()

    def token_of(self, user: str) -> str:
        answer = self._http.post("/v3/auth/authenticate", json={"name": user, "password": PASSWORD})
        return str(answer.json()["token"])

    def ask(self, path: str, fields: dict[str, Any], user: str | None) -> Failure | None:
        """Ask on behalf of a user; returns why not, by our name, or None."""
        headers = {} if user is None else {"Authorization": self.token_of(user)}
        answer = self._http.post(f"/v3/{path}", json=fields, headers=headers)
        if answer.status_code == 200:
            return None
        return FAILURES[answer.json()["error"].partition("etcdserver: ")[2]]

    def revision(self) -> int:
        """The auth revision, which stands in root's token."""
        body = self.token_of(ROOT).split(".")[1]
        return int(json.loads(urlsafe_b64decode(body + "=="))["revision"])

    def run(self, command: AuthCommand, user: str | None) -> Failure | None:
        return self.ask(*_request_of(command), user)

    def run_txn(self, txn: Txn, user: str | None) -> Failure | None:
        return self.ask("kv/txn", _txn_of(txn), user)


def _text(data: bytes | None) -> str:
    return b64encode(data or b"").decode()


def _range_of(key: bytes, range_end: bytes | None) -> dict[str, str]:
    return {"key": _text(key), "range_end": _text(range_end)}


def _request_of(command: AuthCommand) -> tuple[str, dict[str, Any]]:
    match command:
        case EnableAuth():
            return "auth/enable", {}
        case DisableAuth():
            return "auth/disable", {}
        case AddUser(name, None):
            return "auth/user/add", {"name": name, "options": {"no_password": True}}
        case AddUser(name, _):
            return "auth/user/add", {"name": name, "password": PASSWORD}
        case DeleteUser(name):
            return "auth/user/delete", {"name": name}
        case ChangePassword(name, _):
            return "auth/user/changepw", {"name": name, "password": PASSWORD}
        case GrantRole(user, role):
            return "auth/user/grant", {"user": user, "role": role}
        case RevokeRole(user, role):
            return "auth/user/revoke", {"name": user, "role": role}
        case AddRole(name):
            return "auth/role/add", {"name": name}
        case DeleteRole(name):
            return "auth/role/delete", {"role": name}
        case GrantPermission(role, (access, key, range_end)):
            permission = {"permType": access.name, **_range_of(key, range_end)}
            return "auth/role/grant", {"name": role, "perm": permission}
        case RevokePermission(role, key, range_end):
            return "auth/role/revoke", {"role": role, **_range_of(key, range_end)}
        case ResetAuth():
            raise AssertionError("etcd has none")


def _txn_of(txn: Txn) -> dict[str, Any]:
    return {
        "compare": list(map(_compare_of, txn.compares)),
        "success": list(map(_operation_of, txn.success)),
        "failure": list(map(_operation_of, txn.failure)),
    }


def _compare_of(compare: Compare) -> dict[str, Any]:
    fields = _range_of(compare.key, compare.range_end)
    return {"target": "CREATE", "result": "GREATER", "create_revision": "0", **fields}


def _operation_of(operation: Operation) -> dict[str, Any]:
    match operation:
        case Put(key, value):
            return {"request_put": {"key": _text(key), "value": _text(value)}}
        case Get(key, range_end):
            return {"request_range": _range_of(key, range_end)}
        case Delete(key, range_end):
            return {"request_delete_range": _range_of(key, range_end)}
        case _:
            raise AssertionError("etcd checks no inner txn")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    key = tmp_path / "key"
    key.write_text("of the tokens")
    tokens = f"jwt,sign-method=HS256,priv-key={key},ttl=1h"
    with open_etcd(tmp_path, "--unsafe-no-fsync", "--auth-token", tokens, "--bcrypt-cost", "4") as server:
        etcd = Etcd(server.url)
        yield etcd
        etcd.close()


class Both:
    """A store and an etcd that are told the same."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.store = Store()

    def actor(self, user: str | None) -> Actor | None:
        return None if user is None else Actor(user, self.store.auth.revision)

    def run(self, command: AuthCommand | Txn, user: str | None) -> Failure | None:
        """Tell both; returns why it failed, if so."""
        (result,) = self.store.apply([Committed(1, 1, encode_command(command, self.actor(user)))])
        assert isinstance(result, AuthChanged | TxnResult | Failed), result
        ours = result.failure if isinstance(result, Failed) else None
        theirs = (
            self.etcd.run_txn(command, user) if isinstance(command, Txn) else self.etcd.run(command, user)
        )
        assert ours == theirs, (command, user, self.store.auth.users, self.store.auth.roles)
        if self.store.auth.is_enabled:
            assert self.store.auth.revision == self.etcd.revision(), command
        return ours


@needs_etcd
@pytest.mark.parametrize("seed", [2, 3])
def test_what_etcd_does(etcd: Etcd, seed: int) -> None:
    """Each command has the same result, each txn is let pass or denied alike, and the revisions are equal."""
    random = Random(seed)
    drawing = AuthDrawing(random, valid_only=True)
    both = Both(etcd)
    seen: Counter[Failure | None] = Counter()  # of txns of users who need permissions
    for step in range(400):
        if step == 50:
            for command in AS_ROOT:
                both.run(command, None)
        auth = both.store.auth
        known = sorted(name for name, user in auth.users.items() if user.password is not None)
        if random.random() < 0.5:
            command = drawing.command()
            if isinstance(command, ChangePassword):
                user = auth.users.get(command.name)
                if user is not None and user.password is None:
                    continue  # etcd says that it has changed it, and the user has none as before
            both.run(command, random.choice([ROOT] * 9 + known) if auth.is_enabled else None)
            continue
        txn = drawing.txn(depth=3)
        try:
            encode_command(txn)
        except InvalidTxn:
            continue  # it puts a key twice
        name = random.choice(known) if auth.is_enabled else None
        failure = both.run(txn, name)
        if name is not None and ROOT not in auth.users[name].roles:
            seen[failure] += 1
    assert min(seen[None], seen[Failure.PERMISSION_DENIED]) > 10, f"too few of one kind to tell: {seen}"
