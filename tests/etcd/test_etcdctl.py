"""etcdctl of Debian says the same of a node as it says of etcd, but for ids, terms, sizes and free text."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.etcd.servers import HOST, PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node

pytestmark = needs_etcd

#: What belongs to the server: ids, terms, sizes, hashes, addresses, and how long something took.
OWN = [
    (r'"(cluster_id|member_id|raft_term)":\d+', r'"\1":0'),
    (r'"(ClusterID|MemberID|RaftTerm)" : \d+\n', ""),
    (r"127\.0\.0\.1:\d+", "HOST:PORT"),
    (r"took = [^\s]+|took: [^\s]+", "took"),
    (r'lease [0-9a-f]{10,16}|"ID":[0-9]{10,19}', "lease"),
]


def etcdctl(server: ApiServer, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, output, and the last words on stderr."""
    done = subprocess.run(
        ["etcdctl", "--endpoints", f"{HOST}:{server.port}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "ETCDCTL_API": "3"},
        check=False,
    )
    return done.returncode, _common(done.stdout), _common(_error_in(done.stderr))


def _error_in(stderr: str) -> str:
    """The sentence of an error: etcdctl logs a line of JSON before it."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith("{"))


def _common(text: str) -> str:
    for pattern, replacement in OWN:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, ApiServer]]:
    directory = tmp_path_factory.mktemp("servers")
    with open_etcd(directory) as etcd, open_node(directory) as node:
        yield etcd, node


FILL = [("put", f"k/{n}", f"value {n}") for n in (3, 1, 2)] + [("put", "k/2", "again"), ("put", "z", "<&>")]
TXN = 'mod("k/1") > "0"\nvalue("z") = "<&>"\n\nput k/4 four\nget k/ --prefix\ndel z\n\nget k/1\n\n'
COMMANDS: list[tuple[tuple[str, ...], str]] = [
    *[(command, "") for command in FILL],
    (("put", "k/1", "new", "--prev-kv"), ""),
    (("put", "k/1", "--ignore-value"), ""),
    (("put", "none", "--ignore-value"), ""),
    (("put", "k/1", "x", "--lease", "7b"), ""),
    (("put", "k/9"), "from stdin"),
    *[
        (("get", *flags, "-w", form), "")
        for form in ("simple", "json", "fields")
        for flags in (
            ("k/1",),
            ("none",),
            ("k/", "--prefix"),
            ("k/1", "k/3"),
            ("k/2", "--from-key"),
            ("", "--prefix"),
            ("k/", "--prefix", "--limit", "2"),
            ("k/", "--prefix", "--order", "DESCEND"),
            ("k/", "--prefix", "--sort-by", "MODIFY"),
            ("k/", "--prefix", "--sort-by", "CREATE", "--order", "ASCEND", "--limit", "2"),
            ("k/", "--prefix", "--keys-only"),
            ("k/2", "--rev", "4"),
            ("k/", "--prefix", "--consistency", "s"),
        )
    ],
    (("get", "k/", "--prefix", "--print-value-only"), ""),
    (("get", "k/", "--prefix", "--hex"), ""),
    (("get", "k/1", "--rev", "1000"), ""),
    (("get", ""), ""),
    (("txn",), TXN),
    (("txn",), TXN),
    (("txn", "-w", "json"), TXN),
    (("txn",), "\nput a b\nput a c\n\n\n"),
    (("txn",), 'ver("k/1") < "2"\nc("k/1") = "4"\n\nget k/1\n\nput k/1 "with space"\ndel k/3\n\n'),
    (("del", "k/1"), ""),
    (("del", "none"), ""),
    (("del", "k/", "--prefix", "--prev-kv"), ""),
    (("del", "", "--from-key", "-w", "json"), ""),
    (("get", "k/", "--prefix", "--rev", "8"), ""),
    (("compaction", "9"), ""),
    (("compaction", "9"), ""),
    (("compaction", "1000"), ""),
    (("compaction", "10", "--physical"), ""),
    (("get", "k/", "--prefix", "--rev", "8"), ""),
    (("get", "k/", "--prefix", "--rev", "10"), ""),
    (("lease", "grant", "0"), ""),
    (("lease", "grant", "500"), ""),
    (("lease", "grant", "500", "-w", "json"), ""),
    (("lease", "grant", "9000000001"), ""),
    (("lease", "timetolive", "7b"), ""),
    (("lease", "timetolive", "7b", "--keys", "-w", "json"), ""),
    (("lease", "revoke", "7b"), ""),
    (("lease", "keep-alive", "7b", "--once"), ""),
    (("endpoint", "health"), ""),
    (("alarm", "list"), ""),
    (("alarm", "disarm"), ""),
    (("defrag",), ""),
    (("move-leader", "1234"), ""),
    (("member", "remove", "1234"), ""),
    (("member", "update", "1234", "--peer-urls", "http://127.0.0.1:1"), ""),
]


def test_commands(both: tuple[ApiServer, ApiServer]) -> None:
    """Each command has the same exit code, output and error."""
    differences = []
    for arguments, stdin in COMMANDS:
        etcd, node = [etcdctl(server, *arguments, stdin=stdin) for server in both]
        if etcd != node:
            differences.append(f"{arguments} {stdin!r}\n  etcd {etcd}\n  node {node}")
    assert not differences, "\n".join(differences)
