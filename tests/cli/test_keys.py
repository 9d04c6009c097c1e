"""put, get, del, txn, compact: what etcdctl prints of etcd, they print of a node; wrong input is refused."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv_trio.cli.keys.outputs import quoted
from raftkv_trio.cli.keys.txn_text import parse_txn
from raftkv_trio.errors import ConfigError
from raftkv_trio.schema import rpc_pb2
from tests.cli.program import DEADLINE_S, PROGRAM, environment_with, refusal
from tests.conftest import find_free_ports
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.test_etcdctl import OWN

Command = tuple[list[str | bytes], bytes]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_node(tmp_path_factory.mktemp("node")) as running:
        yield running


def keys(server: ApiServer, *arguments: str | bytes, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Exit code and outputs of one of our commands."""
    words = 2 if arguments[0] == "lease" else 1
    endpoints = ["--endpoints", f"127.0.0.1:{server.port}"]
    done = subprocess.run(
        [*PROGRAM, *arguments[:words], *endpoints, *arguments[words:]],
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        env=environment_with(None),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def etcdctl(server: ApiServer, *arguments: str | bytes, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["etcdctl", "--endpoints", f"127.0.0.1:{server.port}", *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        env={**os.environ, "ETCDCTL_API": "3"},
        check=False,
    ).stdout


def common(output: bytes) -> str:
    """Without what belongs to the server."""
    text = output.decode("utf-8", "backslashreplace")
    for pattern, replacement in OWN:
        text = re.sub(pattern, replacement, text)
    return text


TXN = b"""mod("k/1") > "0"
value("k/2") = "two \\"quoted\\"\\n"

put k/3 bare
put k/4 "\\x00\\u00e9"
get k/ --prefix --limit=3
del k/1 --prev-kv

get k/1

"""
COMMANDS: list[Command] = [
    (["put", "k/1", "one"], b""),
    (["put", "k/2"], b'two "quoted"\n'),
    (["put", "k/1", "uno", "--prev-kv"], b""),
    (["put", "k/1", "--ignore-value", "-w", "json"], b""),
    (["put", b"k/\xff", b"\xfe\x01", "-w", "fields"], b""),
    (["put", "k/1", "un", "--prev-kv", "-w", "json"], b""),
    (["put", "k/1", "un", "--prev-kv", "-w", "fields"], b""),
    (["get", "k/1"], b""),
    (["get", "none"], b""),
    (["get", "k/", "--prefix"], b""),
    (["get", "k/", "--prefix", "-w", "fields"], b""),
    (["get", "k/", "--prefix", "-w", "json", "--limit", "1"], b""),
    (["get", "k/1", "k/3", "--keys-only"], b""),
    (["get", "k/2", "--from-key", "--print-value-only"], b""),
    (["get", "", "--from-key", "--sort-by=modify", "--order", "descend"], b""),
    (["get", "", "--prefix", "--sort-by", "VALUE"], b""),
    (["get", "k/1", "--rev=2"], b""),
    (["get", "k/1", "--consistency=s", "-w", "json"], b""),
    (["txn"], TXN),
    (["txn", "-w", "json"], b'ver("k/3") = "9"\n\nput k/3 x\n\nget k/3\nput k/5 five --prev-kv\n\n'),
    (["txn", "-w", "fields"], b'c("k/3") > "1"\n\nget k/3\n\n\n'),
    (["del", "k/2", "-w", "json"], b""),
    (["del", "k/3", "k/4", "--prev-kv"], b""),
    (["del", "k/", "--prefix", "--prev-kv", "-w", "fields"], b""),
    (["del", "", "--from-key"], b""),
    (["compact", "5"], b""),
    (["compact", "6", "-w", "json"], b""),
]


@needs_etcd
def test_the_output_is_that_of_etcdctl(node: ApiServer, tmp_path: Path) -> None:
    """Byte for byte, apart from ids and terms: etcdctl on etcd, ours on a node."""
    with open_etcd(tmp_path) as etcd:
        for arguments, stdin in COMMANDS:
            code, output, errors = keys(node, *arguments, stdin=stdin)
            assert (code, errors) == (0, b""), arguments
            assert common(output) == common(etcdctl(etcd, *arguments, stdin=stdin)), arguments


def test_what_etcdctl_does_not_have(node: ApiServer) -> None:
    """Tables, and a count alone."""
    keys(node, "put", "t/1", "a\x1b[m")
    code, output, _ = keys(node, "get", "--prefix", "t/", "-w", "table")
    head, row = output.decode().splitlines()
    assert code == 0
    assert head.split() == ["KEY", "VALUE", "CREATED", "AT", "MODIFIED", "AT", "VERSION"]
    assert row.startswith("t/1  a\\x1b[m")
    assert keys(node, "get", "--prefix", "t/", "--count-only")[1] == b"1\n"
    assert json.loads(keys(node, "get", "t/", "--prefix", "--count-only", "-w", "json")[1])["count"] == 1


WRONG: list[tuple[list[str | bytes], bytes, str]] = [
    (["get", ""], b"", "etcdserver: key is not provided"),
    (["get", "a", "--rev", "100000"], b"", "etcdserver: mvcc: required revision is a future revision"),
    (["put", "a", "b", "--ignore-value"], b"", "leave VALUE out"),
    (["put", "a", "b", "--lease", "xyz"], b"", "hexadecimal"),
    (["put", "a", "b", "--lease", "abc"], b"", "etcdserver: requested lease not found"),
    (["get", "a", "--prefix", "--from-key"], b"", "choose one"),
    (["del", "a", "b", "--prefix"], b"", "leave RANGE_END out"),
    (["get", "a", "--print-value-only", "-w", "json"], b"", "-w simple"),
    (["get", "a", "--limit", "-1"], b"", "integer"),
    (["get", "a", "--timeout", "0"], b"", "--timeout must be positive"),
    (["compact", "x"], b"", "integer"),
    (["compact", "99999999"], b"", "etcdserver: mvcc: required revision is a future revision"),
    (["txn"], b'mod("a") > "x"\n\n', "line 1"),
    (["txn"], b"\n\nput a\n", "line 3"),
    (["txn"], b"\nput a b\nput a c\n", "duplicate key"),
    (["put", "a"], b"x" * 2_000_000, "request is too large"),
]


@pytest.mark.parametrize(("arguments", "stdin", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_wrong_input(node: ApiServer, arguments: list[str | bytes], stdin: bytes, words: str) -> None:
    """Exit code 2, one sentence, no traceback."""
    code, output, errors = keys(node, *arguments, stdin=stdin)
    assert (code, output) == (2, b"")
    [line] = errors.decode().splitlines()
    assert line.startswith("raftkv-trio: ")
    assert words in line


def test_nobody_answers(tmp_path: Path) -> None:
    """Exit code 1, and why each endpoint failed; without endpoints, which were asked."""
    (port,) = find_free_ports(1)
    sentence = refusal(
        *("put", "a", "b", "--endpoints", f"127.0.0.1:{port}", "--timeout", "0.5"),
        directory=tmp_path,
        exit_code=1,
    )
    assert sentence.splitlines() == [
        "certainly not executed: no answer within 0.5 s",
        f"http://127.0.0.1:{port}: Connection refused",
    ]
    procfile = f"a: raftkv-trio serve --etcd-port {port}\nb: raftkv-trio serve --port 1\n"
    (tmp_path / "Procfile").write_text(procfile)
    sentence = refusal("get", "a", "--timeout", "0.5", directory=tmp_path, exit_code=1)
    assert f"http://127.0.0.1:{port}: Connection refused" in sentence
    assert "this asks the nodes of ./Procfile" in sentence


# ---------------------------------------------------------------- the text of a txn


def test_every_form_of_a_txn_text() -> None:
    """Compares of all targets and operators, quotes and escapes, flags of requests."""
    text = (
        'value("a") = "x"\n val ( "a\\"" )!="\\x41"\nversion("a")<"1"\nver("a") > "-1"\ncreate("a") = "3"\n'
        'c("a")="3"\nmod("a")="4"\nm("a") = "5"\nlease("a") = "1f"\n \n'
        "put --prev-kv 'a b' \"c\\td\"\nget a b --rev 3\n\ndel --prefix a"
    )
    request = parse_txn(text)
    compares = [
        (each.key, each.result, each.target, getattr(each, each.WhichOneof("target_union") or ""))
        for each in request.compare
    ]
    assert compares == [
        (b"a", 0, 3, b"x"),
        (b'a"', 3, 3, b"A"),
        (b"a", 2, 0, 1),
        (b"a", 1, 0, -1),
        (b"a", 0, 1, 3),
        (b"a", 0, 1, 3),
        (b"a", 0, 2, 4),
        (b"a", 0, 2, 5),
        (b"a", 0, 4, 31),
    ]
    put, get = request.success
    assert put.request_put == rpc_pb2.PutRequest(key=b"a b", value=b"c\td", prev_kv=True)
    assert get.request_range == rpc_pb2.RangeRequest(key=b"a", range_end=b"b", revision=3)
    [delete] = request.failure
    assert delete.request_delete_range == rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "line 1 .* no compare"),
        ('size("a") = "1"', "unknown part"),
        ('mod("a") >= "1"', "no compare"),
        ('mod("a") > "1x"', "no number"),
        ('mod("a") > "99999999999999999999"', "no number"),
        ('value("a") = "\\q"', "unknown escape"),
        ('value("a") = "\\ud800"', "unknown escape"),
        ("\nput a", "line 2 .*VALUE"),
        ("\nput a b c", "line 2 .*unexpected"),
        ("\nput a 'b", "quote"),
        ('\nput a "b', "quote"),
        ("\nwatch a", "no request"),
        ("\nget a --nope", "line 2 .*--nope"),
        ("\nget a --prefix --from-key", "line 2 .*choose one"),
        ("\n\n\nput a b", "line 4 .*behind"),
    ],
)
def test_malformed_txn_texts(text: str, words: str) -> None:
    """Each is refused with its line."""
    with pytest.raises(ConfigError, match=words):
        parse_txn(text)


def test_strings_as_go_quotes_them() -> None:
    """Printable characters stay; others, and bytes that are not UTF-8, are escaped."""
    assert quoted('é "\\\n\x7f\u200b'.encode() + b"\xff") == b'"\xc3\xa9 \\"\\\\\\n\\x7f\\u200b\\xff"'
