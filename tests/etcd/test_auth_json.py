"""The JSON of the Auth service is that of etcd: answers, errors and statuses."""

import base64
from pathlib import Path
from typing import Any

import httpx

from tests.etcd.servers import PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node

pytestmark = needs_etcd
TOKEN = "TOKEN"


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


A, END = text(b"a/"), text(b"a0")
#: Path, content, and who asks: nobody, or a user of the last token.
REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("auth/authenticate", {"name": "ann", "password": "hers"}, ""),
    ("auth/user/add", {"name": "root", "password": "pw"}, ""),
    ("auth/user/add", {"name": "ann", "password": "hers"}, ""),
    ("auth/user/add", {"name": "ann", "password": "hers"}, ""),
    ("auth/user/add", {"name": "", "password": "hers"}, ""),
    ("auth/user/add", {"name": "cert", "options": {"no_password": True}}, ""),
    ("auth/user/add", {"name": "empty"}, ""),
    ("auth/user/add", {"name": "hashed", "hashedPassword": text(b"$2a$10$hash")}, ""),  # it is not looked at
    ("auth/user/delete", {"name": "nobody"}, ""),
    ("auth/role/add", {"name": "root"}, ""),
    ("auth/role/add", {"name": "a"}, ""),
    ("auth/role/add", {"name": "a"}, ""),
    ("auth/role/add", {}, ""),
    ("auth/role/get", {"role": "none"}, ""),
    ("auth/role/grant", {"name": "a", "perm": {"permType": "READWRITE", "key": A, "range_end": END}}, ""),
    ("auth/role/grant", {"name": "a", "perm": {"permType": 1, "key": text(b"w")}}, ""),
    ("auth/role/grant", {"name": "none", "perm": {"key": A}}, ""),
    ("auth/role/get", {"role": "a"}, ""),
    ("auth/role/revoke", {"role": "a", "key": text(b"x")}, ""),
    ("auth/role/revoke", {"role": "a", "key": text(b"w")}, ""),
    ("auth/role/list", {}, ""),
    ("auth/user/grant", {"user": "root", "role": "root"}, ""),
    ("auth/user/grant", {"user": "ann", "role": "none"}, ""),
    ("auth/user/grant", {"user": "ann", "role": "a"}, ""),
    ("auth/user/revoke", {"name": "ann", "role": "root"}, ""),
    ("auth/user/get", {"name": "ann"}, ""),
    ("auth/user/get", {"name": "nobody"}, ""),
    ("auth/user/list", {}, ""),
    ("auth/enable", {}, "root:pw"),
    ("kv/put", {"key": A, "value": A}, ""),
    ("kv/put", {"key": A, "value": A}, TOKEN + "x"),
    ("auth/authenticate", {"name": "ann", "password": "wrong"}, ""),
    ("auth/authenticate", {"name": "nobody", "password": "wrong"}, ""),
    ("auth/authenticate", {"name": "empty", "password": "wrong"}, ""),
    ("auth/authenticate", {"name": "empty"}, ""),
    ("auth/user/get", {"name": "empty"}, TOKEN),
    ("auth/authenticate", {"name": "hashed", "password": ""}, ""),
    ("auth/user/get", {"name": "hashed"}, TOKEN),
    ("auth/authenticate", {"name": "ann", "password": "hers"}, ""),
    ("kv/put", {"key": A, "value": A}, TOKEN),
    ("kv/range", {"key": A}, TOKEN),
    ("kv/range", {"key": A, "range_end": text(b"\0")}, TOKEN),
    ("kv/deleterange", {"key": text(b"b"), "prev_kv": True}, TOKEN),
    ("auth/user/list", {}, TOKEN),
    ("auth/user/get", {"name": "ann"}, TOKEN),
    ("auth/user/get", {"name": "root"}, TOKEN),
    ("auth/role/get", {"role": "a"}, TOKEN),
    ("auth/role/get", {"role": "root"}, TOKEN),
    ("auth/disable", {}, TOKEN),
    ("auth/authenticate", {"name": "root", "password": "pw"}, ""),
    ("auth/user/delete", {"name": "root"}, TOKEN),
    ("auth/role/delete", {"role": "root"}, TOKEN),
    ("auth/user/changepw", {"name": "nobody", "password": "x"}, TOKEN),
    ("auth/disable", {}, TOKEN),
]


def ask_all(server: ApiServer) -> list[tuple[int, Any]]:
    """Status and content of each answer, without what each server has its own of."""
    answers, token = [], ""
    with httpx.Client(base_url=f"{server.url}/v3/", timeout=PATIENCE_S) as client:
        for path, content, who in REQUESTS:
            if ":" in who:  # etcd takes no notice of it
                shown = "" if server.name == "etcd" else "Basic " + text(who.encode())
            else:
                shown = who.replace(TOKEN, token)
            answer = client.post(path, json=content, headers={"Authorization": shown} if shown else {})
            found = answer.json()
            token = found.pop("token", token)
            for part in (found, *found.get("kvs", ())):
                part.pop("header", None)
            answers.append((answer.status_code, found))
    return answers


def test_json(tmp_path: Path) -> None:
    """The same requests, to etcd and to a node."""
    with open_etcd(tmp_path, "--unsafe-no-fsync", "--bcrypt-cost", "4") as etcd, open_node(tmp_path) as node:
        both = zip(REQUESTS, ask_all(etcd), ask_all(node), strict=True)
        wrong = [
            f"{request}\n  etcd {theirs}\n  node {ours}" for request, theirs, ours in both if theirs != ours
        ]
    assert not wrong, "\n".join(wrong)
