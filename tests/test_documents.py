"""What the documents name is there: files, links, commands, flags, names in Python. Pictures are current."""

import builtins
import importlib
import re
import runpy
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from raftkv_trio import Node
from raftkv_trio.cli.commands import program
from raftkv_trio.testing import Simulation
from raftkv_trio.testing.planted import PLANTED
from tests.test_imports import RANK

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raftkv_trio"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
VIOLATION = "raftkv_trio.testing.invariants.violation"
PICTURES = ROOT / "docs" / "pictures"

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def prose(document: Path) -> str:
    """A document without its fenced and indented code."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def inline_code(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(document))


def code_lines(document: Path) -> Iterator[str]:
    """The lines of fenced and indented code."""
    text = document.read_text()
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"^    (\S.*)$", text, re.MULTILINE)


@cache
def words_of_the_package() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))))


def anchors(document: Path) -> set[str]:
    """The fragments of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------- files and links


@each_document
def test_files_are_there(document: Path) -> None:
    """Each path of the repository, each `room/file.py` and each room that a document names exists."""
    text = document.read_text()
    named = set(re.findall(r"\b(?:raftkv_trio|tests|docs|examples)/[\w./-]*\w", text))
    named |= {code for code in inline_code(document) if re.fullmatch(r"[\w./]+\.py", code)}
    if document.parent == ROOT:  # in docs/ a name and a slash may be a directory beside a node's data
        named |= {code for code in inline_code(document) if re.fullmatch(r"\w+(/\w+)*/", code)}
    assert {name for name in named if not any((base / name).exists() for base in (ROOT, PACKAGE))} == set()


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link leads to a file, and its fragment to a heading in it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        target, _, fragment = link.partition("#")
        file = (document.parent / target).resolve() if target else document
        if not file.exists() or (fragment and fragment not in anchors(file)):
            broken.append(link)
    assert not broken


def test_every_page_is_linked_from_the_readme() -> None:
    """A reader of the README finds each page."""
    readme = (ROOT / "README.md").read_text()
    unlinked = [path.name for path in DOCUMENTS[1:] if f"({path.relative_to(ROOT)})" not in readme]
    assert not unlinked


def test_pictures_are_current() -> None:
    """Each committed picture is what `draw.py` draws; its files exist, and a document shows it."""
    drawn = runpy.run_path(str(PICTURES / "draw.py"))["PICTURES"]
    committed = {path.name: path.read_text(encoding="utf-8") for path in PICTURES.glob("*.svg")}
    assert committed == {name: draw().svg() for name, draw in drawn.items()}
    named = re.findall(r"[>\s]([\w/]+\.py)\b", "".join(committed.values()))
    assert [name for name in named if not (PACKAGE / name).exists()] == []
    text = "".join(document.read_text() for document in DOCUMENTS)
    assert [name for name in committed if f"pictures/{name})" not in text] == []


def test_the_rooms() -> None:
    """ARCHITECTURE lists each room of the package once, and imports go down that list only."""
    section = (ROOT / "ARCHITECTURE.md").read_text().partition("## The rooms\n")[2]
    listed = re.findall(r"^\| `(\w+)/` \|", section.partition("Inside")[0], re.MULTILINE)
    assert sorted(listed) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    floors = [RANK[room] for room in listed if room in RANK]  # those of testing/ are on several
    assert floors == sorted(floors)
    inside = re.findall(r"^\| `testing/(\w+)/` \|", section, re.MULTILINE)
    assert sorted(inside) == sorted(path.parent.name for path in PACKAGE.glob("testing/*/__init__.py"))


# ---------------------------------------------------------------- the command line


def command_lines(document: Path) -> Iterator[list[str]]:
    """Commands that a document shows, as their words from `raftkv-trio` on, that name excluded."""
    for line in (*code_lines(document), *inline_code(document)):
        for part in re.split(r" && |; | \| ", line):
            words = shlex.split(part, comments=True) if part.count("'") % 2 == 0 else part.split()
            while words and re.fullmatch(r"[A-Z_]+=\S*|-m|python\S*", words[0]):
                words.pop(0)
            if words and words[0].rpartition("/")[2] in ("raftkv-trio", "raftkv_trio"):
                yield words[1:]
            elif len(words) > 1 and words[0] in program.commands and line in inline_code(document):
                yield words


def unknown_in(words: list[str]) -> str | None:
    """The first word of a command line that the program does not know, if there is one."""
    command: click.Command = program
    if "--" in words:  # what follows is another program's
        words = words[: words.index("--")]
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        name = words.pop(0)
        if re.fullmatch(r"[A-Z]+|\.\.\.", name):  # stands for any command
            return None
        if name not in command.commands:
            return name
        command = command.commands[name]
    flags = {flag for parameter in command.params for flag in parameter.opts} | {"-h", "--help"}
    return next((word for word in words if re.match(r"--?[a-z]", word) and word not in flags), None)


@each_document
def test_commands_are_there(document: Path) -> None:
    """Each command line that a document shows is one of the program's, with its flags."""
    assert [words for words in command_lines(document) if unknown_in(list(words)) is not None] == []


@each_document
def test_flags_are_there(document: Path) -> None:
    """Each flag that a document names is one of some command."""
    commands: list[click.Command] = [program]
    for command in commands:
        if isinstance(command, click.Group):
            commands += command.commands.values()
    flags = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    named = {code.split()[0] for code in inline_code(document) if re.match(r"--?[a-z]", code)}
    assert named - {flag.rstrip(",") for flag in flags} - {"-h", "--help"} == set()


def test_the_documents_show_commands() -> None:
    """The tests above have found something to look at: each command is shown somewhere."""
    shown = {words[0] for document in DOCUMENTS for words in command_lines(document) if words}
    assert shown >= program.commands.keys()


# ---------------------------------------------------------------- names in Python


@each_document
def test_names_are_there(document: Path) -> None:
    """Each name in inline code, such as a class or a function, stands in the package."""
    named = {
        match[1]
        for code in inline_code(document)
        if (match := re.fullmatch(r"(?:\w+\.)*([A-Za-z_]\w*[A-Z_]\w*)(?:\(.*\))?", code))
    }
    # variables and metrics are made of parts; other tests compare them
    made = {name for name in named if name.lower().startswith(("raftkv_trio_", "raftkv_"))}
    assert named - made - words_of_the_package() == set()


@each_document
def test_public_names_can_be_imported(document: Path) -> None:
    """Each dotted name of the package in inline code is a module, or a name in one."""
    for code in inline_code(document):
        if re.fullmatch(r"raftkv_trio(\.\w+)+", code):
            parts = code.split(".")
            try:
                importlib.import_module(code)
            except ModuleNotFoundError:
                owner = importlib.import_module(".".join(parts[:-1]))
                assert hasattr(owner, parts[-1]), code


@pytest.mark.parametrize(
    ("page", "homes"),
    [
        ("embedding.md", ("raftkv_trio",)),
        ("testing.md", ("raftkv_trio.testing", "raftkv_trio", VIOLATION)),
    ],
)
def test_classes_can_be_imported(page: str, homes: tuple[str, ...]) -> None:
    """Each class that a page for programmers names is a public one, or Python's own."""
    known = {*dir(builtins), *(name for home in homes for name in dir(importlib.import_module(home)))}
    code = inline_code(ROOT / "docs" / page)
    named = {match[1] for c in code if (match := re.fullmatch(r"([A-Z]\w*[a-z]\w*)(?:\(.*\))?", c))}
    assert named - known == set()


def table_below(document: Path, heading: str) -> list[str]:
    """Names of the functions in the first columns of the tables below a heading."""
    section = document.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    columns = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return [name for column in columns for name in re.findall(r"`(\w+)\(", column)]


@pytest.mark.parametrize(
    ("page", "heading", "owner"),
    [("embedding.md", "The handle", Node), ("testing.md", "What a simulation does", Simulation)],
)
def test_methods_are_there(page: str, heading: str, owner: type) -> None:
    """Each method in these tables is one of the class."""
    names = table_below(ROOT / "docs" / page, heading)
    assert len(names) >= 8
    assert [name for name in names if not hasattr(owner, name)] == []


@each_document
def test_excerpts_are_word_for_word(document: Path) -> None:
    """A code block behind `<!-- from FILE -->` stands in that file."""
    excerpt = re.compile(r"^<!-- from (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for file, block in excerpt.findall(document.read_text()):
        assert block in (ROOT / file).read_text()


def test_the_table_of_planted_bugs() -> None:
    """ARCHITECTURE has each planted bug, with what it does and the lowest level that runs it."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| `([\w'-]+)` \| (.+?) \| (\d) \| \d+ \| .+? \|$", text, re.MULTILINE)
    assert rows == [(bug.name, bug.does, str(bug.level)) for bug in PLANTED.values()]
    numbers = re.findall(r"all (\d+) bugs", (ROOT / "README.md").read_text())
    assert numbers == [str(len(PLANTED))]
