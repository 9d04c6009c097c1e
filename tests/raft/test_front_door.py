"""The front door of the core: its example runs as it is printed, and its tables name code that exists."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import raftkv_trio
from raftkv_trio import raft

DOCUMENT = raft.__doc__ or ""


def test_the_example_runs_as_it_is_printed() -> None:
    """Every statement of the docstring runs and prints what is written below it."""
    example = doctest.DocTestParser().get_doctest(DOCUMENT, {}, "raft", raft.__file__, 0)
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0
    assert result.attempted >= 14


def test_the_code_that_the_tables_name_exists() -> None:
    """Each `module.name` of the tables is in the core, and each path is in the package."""
    named = re.findall(r"`([a-z_]+)\.((?:[A-Z]\w*\.)?\w+)`", DOCUMENT)
    core = {path.stem for path in Path(raft.__file__).parent.glob("*.py")}
    found = 0
    for module, name in named:
        if module in core and name != "py":
            value: object = import_module(f"raftkv_trio.raft.{module}")
            for part in name.split("."):
                value = getattr(value, part)
            found += 1
    assert found >= 35
    for path in re.findall(r"`((?:node|tests)/[\w/]*(?:\.py)?)`", DOCUMENT):
        root = Path(raftkv_trio.__file__).parent
        assert (root / path).exists() or (root.parent / path).exists(), path


def test_all_public_names_exist_and_say_what_they_are() -> None:
    """`from raftkv_trio.raft import *` gives every public name; classes and functions have docstrings."""
    for name in raft.__all__:
        value = getattr(raft, name)
        assert isinstance(value, int) or value.__doc__, name
