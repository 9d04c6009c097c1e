"""The house: imports go down the list of ARCHITECTURE.md, and the lowest floors know no Trio."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raftkv_trio"

# Top to bottom; modules of one floor may import each other, and everything below them.
FLOORS = [
    {"__main__"},
    {"cli", "local"},
    {"client"},
    {"testing"},
    {"server"},
    {"rest"},
    {"__init__", "kv", "node", "offline", "peers", "storage", "payload"},
    {"sync", "world", "state_machine"},
    {"config"},
    {"raft"},
    {"logs"},
    {"errors", "_version"},
]
RANK = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}
PURE = {
    "kv": {"cbor2", "sortedcontainers"},
    "payload": {"cbor2"},
    "raft": set(),
    "config": set(),
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").parts[0], path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "raftkv_trio":
                yield from (f"raftkv_trio.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


def own(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "raftkv_trio":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in RANK else "__init__"


@pytest.mark.parametrize(
    ("place", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()]
)
def test_imports_go_down_only(place: str, path: Path) -> None:
    """A module imports from its own floor or from those below it."""
    assert place in RANK, f"{place} has no place in the house: say where it belongs"
    wrong = [name for name in imported(path) if (target := own(name)) and RANK[target] < RANK[place]]
    assert not wrong


@pytest.mark.parametrize("place", sorted(PURE))
def test_the_pure_parts_do_no_io(place: str) -> None:
    """The core is standard library only; store and wire have CBOR and sorted maps, and none has trio."""
    foreign = {
        name.split(".")[0]
        for module, path in modules()
        if module == place
        for name in imported(path)
        if own(name) is None and name.split(".")[0] not in sys.stdlib_module_names
    }
    assert foreign <= PURE[place]


def test_the_core_knows_nothing_around_it() -> None:
    """`raft/` imports of the package only its own modules and the root of the errors."""
    around = {own(name) for place, path in modules() if place == "raft" for name in imported(path)}
    assert around <= {"raft", "errors", None}
