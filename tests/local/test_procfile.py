"""The Procfile: what is read, and what is refused with the line that is wrong."""

import re
from pathlib import Path

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.local.procfile import (
    check_names,
    client_addresses,
    cluster_of_nodes,
    parse_procfile,
    read_procfile,
)

ROOT = Path(__file__).parents[2]


def test_names_and_commands_in_order() -> None:
    """Names map to their commands as written, in the file's order, without comments and blank lines."""
    text = "# a comment\n\nweb: serve --port 1 # x: y\r\n  b-2 :  sh -c 'a: b'  \nA_1:x"
    assert list(parse_procfile(text).items()) == [
        ("web", "serve --port 1 # x: y"),
        ("b-2", "sh -c 'a: b'"),
        ("A_1", "x"),
    ]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """Editors on Windows begin a file with one."""
    procfile = tmp_path / "Procfile"
    procfile.write_bytes(b"\xef\xbb\xbfa: x\r\nb: y\r\n")
    assert read_procfile(procfile) == {"a": "x", "b": "y"}


@pytest.mark.parametrize("name", ["Procfile", "Procfile.tls"])
def test_the_procfiles_of_this_repository(name: str) -> None:
    """Ours name raftkv1 to raftkv3, each a `serve` of its own id, and of the same cluster."""
    commands = parse_procfile((ROOT / name).read_text())
    assert list(commands) == ["raftkv1", "raftkv2", "raftkv3"]
    for node_id, command in enumerate(commands.values(), start=1):
        assert command.startswith(f"raftkv-trio serve --id {node_id} ")
    members = {i: PeerAddress("127.0.0.1", port) for i, port in ((1, 12379), (2, 22379), (3, 32379))}
    assert cluster_of_nodes(commands) == (members, "")


def test_the_procfile_with_tls_is_a_twin() -> None:
    """The same nodes with the same flags and https; what more they have is for TLS, each node's own files."""
    plain, tls = (parse_procfile((ROOT / name).read_text()) for name in ("Procfile", "Procfile.tls"))
    for node_id, (command, twin) in enumerate(zip(plain.values(), tls.values(), strict=True), start=1):
        same, more = (
            twin.replace("https:", "http:")[: len(command)],
            twin.replace("https:", "http:")[len(command) :],
        )
        assert same == command
        files = re.findall(r" --([\w-]+) certs/(\S+)", more)
        assert "".join(f" --{flag} certs/{file}" for flag, file in files) == more
        assert {file for _, file in files} == {"ca.crt", f"node-{node_id}.crt", f"node-{node_id}.key"}


@pytest.mark.parametrize(
    ("command", "members", "token"),
    [
        ("raftkv-trio serve", {1: PeerAddress("127.0.0.1", 9021)}, ""),
        (
            "raftkv-trio serve --cluster 3=https://a:1,7=http://b:2 --cluster-token=x",
            {3: PeerAddress("a", 1), 7: PeerAddress("b", 2)},
            "x",
        ),
    ],
)
def test_the_cluster_of_the_nodes(command: str, members: dict[int, PeerAddress], token: str) -> None:
    """The flags of the first node tell it; other processes count for nothing."""
    commands = {"other": "sleep --cluster 1", "node": command, "next": "raftkv-trio serve --cluster nonsense"}
    assert cluster_of_nodes(commands) == (members, token)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("sleep 1", "the Procfile runs no node; name another with `procfile`"),
        ("raftkv-trio serve --cluster 'http://a:1", "the command of a cannot be read: No closing quotation"),
        ("raftkv-trio serve --cluster http://a", "peer URL 'http://a' is not of the form "),
    ],
)
def test_no_cluster(command: str, sentence: str) -> None:
    """What is wrong is told."""
    with pytest.raises(ConfigError) as caught:
        cluster_of_nodes({"a": command})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the Procfile names no process"),
        ("# nothing: here\n", "the Procfile names no process"),
        ("a: x\nb x\n", "line 2 of the Procfile is not of the form name: command"),
        ("a:\n", "line 1 of the Procfile is not of the form name: command"),
        ("a b: x", "line 1 of the Procfile is not of the form name: command"),
        ("a: x\0y", "line 1 of the Procfile is not of the form name: command"),
        ("a: x\n\na: y\n", "line 3 of the Procfile names a a second time"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, sentence: str) -> None:
    """No line is passed over in silence: the first that does not fit is named."""
    with pytest.raises(ConfigError) as caught:
        parse_procfile(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("raftkv-trio serve", "http://127.0.0.1:9121"),
        ("raftkv-trio serve --port 1 --host 10.0.0.1", "http://10.0.0.1:1"),
        ("exec python -m raftkv_trio serve --port=2 --host=0.0.0.0", "http://127.0.0.1:2"),
        ("raftkv-trio serve --host '[::1]' --port 3", "http://[::1]:3"),
        ("raftkv-trio serve --port 4 --advertise-client http://a:5", "http://a:5"),
        ("raftkv-trio serve --port $PORT", None),
        ("raftkv-trio serve --port 'a", None),
        ("raftkv-trio serve --port 99999", None),
        ("raftkv-trio local start --port 6", None),
    ],
)
def test_where_clients_reach_a_node(command: str, url: str | None) -> None:
    """A node's address is that of its flags; what they do not tell is left out."""
    found = client_addresses({"a": command})
    assert [address.url for address in found.values()] == ([] if url is None else [url])


def test_names_are_checked_against_the_file() -> None:
    """Each wanted name comes once, none means all, and an unknown one is refused with the known ones."""
    assert check_names(["b", "a", "b"], ["a", "b", "c"]) == ["b", "a"]
    assert check_names([], ["a", "b"]) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"^no process is named 'd'; the Procfile names a, b$"):
        check_names(["a", "d"], ["a", "b"])
