"""Users of a server of etcd's API, made over JSON: root, and ann, who may do everything with keys `a/...`."""

import base64
from typing import Any

import httpx

from tests.etcd.servers import PATIENCE_S, ApiServer

ROOT, ANN = ("root", "root's password"), ("ann", "ann's password")


def ask(server: ApiServer, path: str, content: dict[str, Any], token: str = "") -> Any:
    """The answer to a request to the gateway. Raises AssertionError if it is an error."""
    answer = httpx.post(
        f"{server.url}/v3/{path}",
        json=content,
        headers={"Authorization": token} if token else {},
        timeout=PATIENCE_S,
        verify=False,  # httpx would read the system's CAs for each request, though it has no TLS
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def token_of(server: ApiServer, user: tuple[str, str]) -> str:
    """A token of a user."""
    token: str = ask(server, "auth/authenticate", {"name": user[0], "password": user[1]})["token"]
    return token


def add_users(server: ApiServer) -> None:
    """Add both, and let the server check users from now on."""
    for name, password in (ROOT, ANN):
        ask(server, "auth/user/add", {"name": name, "password": password})
    ask(server, "auth/role/add", {"name": "root"})
    ask(server, "auth/role/add", {"name": "a"})
    permission = {"permType": "READWRITE", "key": _text(b"a/"), "range_end": _text(b"a0")}
    ask(server, "auth/role/grant", {"name": "a", "perm": permission})
    ask(server, "auth/user/grant", {"user": "root", "role": "root"})
    ask(server, "auth/user/grant", {"user": "ann", "role": "a"})
    enable(server)


def enable(server: ApiServer) -> None:
    """Let the server check users; root proves who asks for that, which etcd takes no notice of."""
    basic = "Basic " + _text(":".join(ROOT).encode())
    ask(server, "auth/enable", {}, "" if server.name == "etcd" else basic)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
