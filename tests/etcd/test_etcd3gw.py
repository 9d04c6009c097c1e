"""etcd3gw, a client library for the JSON gateway, used as its users use it; in a process of its own."""

import subprocess
import sys
from pathlib import Path

from tests.etcd.servers import PATIENCE_S, open_node

PROGRAM = """
import sys, etcd3gw
c = etcd3gw.client(port=int(sys.argv[1]))
assert c.put("foo", "bar") is True
assert c.get("foo") == [b"bar"]
c.put("foo/2", b"\\xff\\x00")
values = c.get_prefix("foo")
assert [(kv["key"], value) for value, kv in values] == [(b"foo", b"bar"), (b"foo/2", b"\\xff\\x00")], values
assert c.get("foo", metadata=True)[0][1]["version"] == "1"
assert c.create("foo", "other") is False
assert c.create("new", "1") is True
assert c.replace("new", "1", "2") is True
assert c.replace("new", "1", "3") is False
assert c.get("new") == [b"2"]
assert len(c.get_all(sort_order="descend", sort_target="mod")) == 3
assert c.get_all(sort_order="descend", sort_target="mod")[0][0] == b"2"
assert c.delete("new") is True
assert c.delete("new") is False
assert c.delete_prefix("foo") is True
assert c.get("foo") == []
assert c.status()["version"].count(".") == 2
[member] = c.members()
assert member["clientURLs"] == [f"http://127.0.0.1:{sys.argv[1]}"], member
print("done")
"""


def test_a_program_with_etcd3gw(tmp_path: Path) -> None:
    """Keys, prefixes, create and replace, status and members."""
    with open_node(tmp_path) as node:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(node.port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
