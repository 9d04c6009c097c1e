"""The house: imports go down the list of ARCHITECTURE.md, and the lowest floors know no Trio."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raftkv_trio"

# Top to bottom; the rooms of one floor do not know each other.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"testing.campaign", "testing.pytest_plugin", "testing.__init__"},
    {"server", "testing.simulator"},
    {"rest", "offline", "testing.planted", "testing.schedules", "__init__"},
    {"node", "testing.world"},
    {"peers", "client"},
    {"storage", "http", "testing.invariants"},
    {"payload", "config"},
    {"raft", "kv", "addresses", "local", "logs"},
    {"errors", "state_machine", "sync", "testing.histories", "world", "_version"},
]
RANK = {room: rank for rank, floor in enumerate(FLOORS) for room in floor}
PURE = {
    "kv": {"cbor2", "sortedcontainers"},
    "payload": {"cbor2"},
    "raft": set(),
    "addresses": set(),
    "config": set(),
}


def room_of(parts: tuple[str, ...]) -> str:
    """The room that a module belongs to; those inside `testing/` are rooms of their own."""
    return ".".join(parts[:2]) if parts[0] == "testing" and len(parts) > 1 else parts[0]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield room_of(path.relative_to(PACKAGE).with_suffix("").parts), path


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
    """The room of a dotted name of this package; None for another package."""
    package, *parts = name.split(".")
    if package != "raftkv_trio":
        return None
    room = room_of(tuple(parts)) if parts else "__init__"
    if room in RANK:
        return room
    return "testing.__init__" if parts[0] == "testing" else "__init__"


@pytest.mark.parametrize(
    ("place", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()]
)
def test_imports_go_down_only(place: str, path: Path) -> None:
    """A module imports from its own room and from the floors below it."""
    assert place in RANK, f"{place} is on no floor: say where it belongs"
    wrong = [
        name
        for name in imported(path)
        if (target := own(name)) and target != place and RANK[target] <= RANK[place]
    ]
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
