"""etcdctl of Debian says the same of users, roles and permissions of a node as it says of those of etcd."""

from pathlib import Path

from tests.etcd.servers import needs_etcd, open_etcd, open_node
from tests.etcd.test_etcdctl import etcdctl
from tests.etcd.users import ANN as A
from tests.etcd.users import ROOT as R
from tests.etcd.users import add_users

pytestmark = needs_etcd

ROOT, ANN, BAD = ("--user", "root:pw"), ("--user", "ann:hers"), ("--user", "ann:wrong")
_ROOT, _ANN = ("--user", ":".join(R)), ("--user", ":".join(A))
COMMANDS: list[tuple[str, ...]] = [
    (*ROOT, "put", "a/1", "one"),
    ("user", "list"),
    ("user", "add", "root:pw"),
    ("user", "add", "root:pw"),
    ("role", "add", "root"),
    ("role", "add", "root"),
    ("user", "grant-role", "root", "root"),
    ("user", "grant-role", "nobody", "root"),
    ("user", "grant-role", "root", "none"),
    ("user", "add", "ann:hers"),
    ("user", "add", "cert", "--no-password"),
    ("role", "add", "a"),
    ("role", "add", "b"),
    ("role", "grant-permission", "a", "readwrite", "a/", "--prefix"),
    ("role", "grant-permission", "a", "read", "b/1"),
    ("role", "grant-permission", "a", "write", "c", "d"),
    ("role", "grant-permission", "none", "read", "b/1"),
    ("role", "get", "a"),
    ("role", "get", "a", "-w", "fields"),
    ("role", "get", "none"),
    ("role", "list"),
    ("user", "grant-role", "ann", "a"),
    ("user", "get", "ann"),
    ("user", "get", "ann", "--detail"),
    ("user", "get", "nobody"),
    (*ROOT, "auth", "enable"),
    (*ROOT, "auth", "enable"),
    ("put", "a/1", "two"),
    ("get", "a/1"),
    (*BAD, "get", "a/1"),
    ("--user", "nobody:x", "get", "a/1"),
    ("--user", "cert:", "get", "a/1"),
    (*ANN, "put", "a/1", "two"),
    (*ANN, "get", "a/1"),
    (*ANN, "get", "a", "--prefix"),
    (*ANN, "get", "a/", "--prefix"),
    (*ANN, "put", "b/1", "x"),
    (*ANN, "get", "b/1"),
    (*ANN, "put", "c", "x"),
    (*ANN, "get", "c"),
    (*ANN, "put", "c", "x", "--prev-kv"),
    (*ANN, "del", "a/", "--prefix"),
    (*ANN, "del", "b/", "--prefix"),
    (*ANN, "watch", "b/2"),
    (*ANN, "user", "list"),
    (*ANN, "user", "get", "ann"),
    (*ANN, "user", "get", "root"),
    (*ANN, "role", "get", "a"),
    (*ANN, "role", "get", "root"),
    (*ANN, "role", "list"),
    (*ANN, "user", "add", "eve:pw"),
    (*ANN, "auth", "disable"),
    (*ROOT, "user", "delete", "root"),
    (*ROOT, "user", "revoke-role", "root", "root"),
    (*ROOT, "role", "delete", "root"),
    (*ROOT, "user", "revoke-role", "ann", "b"),
    (*ROOT, "role", "revoke-permission", "a", "nothing"),
    (*ROOT, "role", "revoke-permission", "a", "b/1"),
    (*ANN, "get", "b/1"),
    (*ROOT, "user", "revoke-role", "ann", "a"),
    (*ANN, "get", "a/1"),
    (*ROOT, "role", "delete", "a"),
    (*ROOT, "role", "delete", "a"),
    (*ROOT, "user", "delete", "ann"),
    (*ROOT, "user", "delete", "ann"),
    (*ANN, "get", "a/1"),
    (*ROOT, "auth", "disable"),
    (*ROOT, "user", "list"),
    ("auth", "disable"),
    ("get", "a/", "--prefix"),
]


def test_commands(tmp_path: Path) -> None:
    """Each command has the same exit code, output and error."""
    with open_etcd(tmp_path, "--unsafe-no-fsync") as etcd, open_node(tmp_path) as node:
        both = [[(command, etcdctl(server, *command)) for command in COMMANDS] for server in (etcd, node)]
        password = [
            etcdctl(s, "user", "passwd", "root", "--interactive=false", stdin="new") for s in (etcd, node)
        ]
    differences = [f"{a[0]}\n  etcd {a[1]}\n  node {b[1]}" for a, b in zip(*both, strict=True) if a != b]
    assert not differences, "\n".join(differences)
    assert password[0] == password[1]


def test_what_is_for_root_alone(tmp_path: Path) -> None:
    """A compaction may take from others what they may read; in etcd every user may do it."""
    with open_node(tmp_path) as node:
        add_users(node)
        for command in (("compaction", "1"), ("member", "remove", "1"), ("defrag",)):
            code, _, error = etcdctl(node, *_ANN, *command)
            assert (code != 0, "permission denied" in error) == (True, True), command
            assert "permission denied" not in etcdctl(node, *_ROOT, *command)[2]


def test_nobody_enables_it_but_root(tmp_path: Path) -> None:
    """Who cannot prove to be root cannot lock all others out; etcd lets everybody do it."""
    with open_node(tmp_path) as node:
        for command in COMMANDS[2:7:2]:
            assert etcdctl(node, *command)[0] == 0
        assert etcdctl(node, "auth", "enable")[2] == "Error: etcdserver: user name is empty"
        assert etcdctl(node, *BAD, "auth", "enable")[0] != 0
        assert etcdctl(node, "--user", "root:bad", "auth", "enable")[0] != 0
        assert etcdctl(node, "put", "a", "b")[0] == 0
        assert etcdctl(node, *ROOT, "auth", "enable")[0] == 0
        assert etcdctl(node, "put", "a", "b")[2] == "Error: etcdserver: user name is empty"
