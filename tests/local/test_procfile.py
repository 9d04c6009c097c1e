"""The Procfile: what is read, and what is refused with the line that is wrong."""

from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.local.procfile import check_names, client_addresses, parse_procfile, read_procfile

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


def test_the_procfile_of_this_repository() -> None:
    """Ours names raftkv1 to raftkv3, each a `serve` of its own id."""
    commands = parse_procfile((ROOT / "Procfile").read_text())
    assert list(commands) == ["raftkv1", "raftkv2", "raftkv3"]
    for node_id, command in enumerate(commands.values(), start=1):
        assert command.startswith(f"raftkv-trio serve --id {node_id} ")


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
