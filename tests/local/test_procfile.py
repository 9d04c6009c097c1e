"""The Procfile: what is read, and what is refused with the line that is wrong."""

from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.local.procfile import check_names, parse_procfile

ROOT = Path(__file__).parents[2]


def test_names_and_commands_in_order() -> None:
    """Names map to their commands as written, in the file's order, without comments and blank lines."""
    text = "# a comment\n\nweb: serve --port 1 # x: y\r\n  b-2 :  sh -c 'a: b'  \nA_1:x"
    assert list(parse_procfile(text).items()) == [
        ("web", "serve --port 1 # x: y"),
        ("b-2", "sh -c 'a: b'"),
        ("A_1", "x"),
    ]


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


def test_names_are_checked_against_the_file() -> None:
    """Each wanted name comes once, none means all, and an unknown one is refused with the known ones."""
    assert check_names(["b", "a", "b"], ["a", "b", "c"]) == ["b", "a"]
    assert check_names([], ["a", "b"]) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"^no process is named 'd'; the Procfile names a, b$"):
        check_names(["a", "d"], ["a", "b"])
