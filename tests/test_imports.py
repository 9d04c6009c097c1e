"""The house: each room imports only from the floors below it. The list below is a map of the package."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raftkv_trio"

# From top to bottom. The rooms of one floor do not import each other.
FLOORS = [
    # What a user starts.
    {"__main__"},
    {"cli"},
    # Programs around whole nodes: a cluster on one machine, and simulated clusters by the thousand.
    {"local", "testing.campaign", "testing.pytest_plugin", "testing.__init__"},
    # A node with all that belongs to it: one that serves clients, and one in a simulated world.
    {"server", "testing.simulator"},
    # The public names, of which most are of the rooms below.
    {"__init__"},
    # What is done with nodes: serve clients, mend a stopped directory, ask a running cluster.
    {"rest", "etcd", "offline", "client", "testing.planted", "testing.schedules"},
    # A node and the store that it replicates, for whatever serves clients.
    {"access"},
    # One node, and the two sides that it and its clients are connected by.
    {"node", "http", "grpc", "testing.world"},
    {"peers"},
    # The node's disk, then what log entries and snapshots carry.
    {"storage", "tls", "testing.invariants"},
    {"payload", "config", "certificates", "lingering"},
    # Consensus and the key-value store: they know neither the node nor each other.
    {"raft", "kv", "addresses", "pace", "logs", "user_files"},
    # etcd's messages, for what serves them and for what asks.
    {"schema"},
    # How bytes are read that somebody else may have made.
    {"strict_cbor"},
    # What every room may use.
    {"errors", "state_machine", "sync", "world", "testing.histories", "_version"},
    # The decorator of immutable records, what makes foreign text fit for a line, and connected sockets.
    {"records", "foreign_text", "tcp_stream"},
]
RANK = {room: rank for rank, floor in enumerate(FLOORS) for room in floor}
PURE = {
    "kv": {"cbor2", "sortedcontainers"},
    "payload": {"cbor2"},
    "raft": set(),
    "schema": {"google"},
    "strict_cbor": {"cbor2"},
    "records": set(),
    "addresses": {"idna"},
    "config": set(),
    "errors": set(),
    "foreign_text": set(),
    "state_machine": set(),
}


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module: its folder in the package, or in `testing/`; a module at the top is its own."""
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
    """The core is standard library only, others add CBOR, sorted maps or host names, and none has Trio."""
    foreign = {
        name.split(".")[0]
        for module, path in modules()
        if module == place
        for name in imported(path)
        if own(name) is None and name.split(".")[0] not in sys.stdlib_module_names
    }
    assert foreign <= PURE[place]


def test_the_core_knows_nothing_around_it() -> None:
    """`raft/` imports only its own modules, the root of the errors and `record`."""
    around = {own(name) for place, path in modules() if place == "raft" for name in imported(path)}
    assert around <= {"raft", "errors", "records", None}
