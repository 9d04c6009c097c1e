"""Every package that is imported is declared as a dependency, and nothing else is."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OUR_PACKAGES = ("raftkv_trio", "tests", "benchmarks")
#: Only `pytest_plugins = [...]` of a user who has pytest loads this module.
PLUGIN = ROOT / "raftkv_trio" / "testing" / "pytest_plugin.py"
#: Only commands that make certificates load this room.
CERTIFICATES = ROOT / "raftkv_trio" / "certificates"
#: pytest loads the first two itself, the Procfile's test runs honcho, and grpc_tools generates `schema/`.
NOT_IMPORTED = {"pytest_trio", "pytest_xdist", "honcho", "grpc_tools", "etcd3gw"}
#: The import names that differ from the names of the packages.
IMPORT_NAMES = {"protobuf": "google", "pyjwt": "jwt", "grpcio": "grpc", "grpcio_tools": "grpc_tools"}


def declared(requirements: Iterable[str]) -> set[str]:
    """The import names of requirements, which are mostly their names with underscores."""
    names = (re.split(r"[<>=!~\[; ]", text)[0].replace("-", "_").lower() for text in requirements)
    return {IMPORT_NAMES.get(name, name) for name in names}


def imported(*folders: str) -> Iterator[tuple[Path, str]]:
    """The packages that modules import, and that are neither ours nor Python's own."""
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for package in {name.partition(".")[0] for name in names}:
                is_ours = package in OUR_PACKAGES or (path.parent / f"{package}.py").exists()
                if not is_ours and package not in sys.stdlib_module_names:
                    yield path, package


DEPENDENCIES = declared(PROJECT["dependencies"])
TLS_DEPENDENCIES = declared(PROJECT["optional-dependencies"]["tls"])
TEST_DEPENDENCIES = declared(PROJECT["optional-dependencies"]["test"])


def test_the_package_declares_what_it_imports() -> None:
    """A dependency of a dependency may go away; and one that nothing imports is a burden."""
    found = list(imported("raftkv_trio"))
    of_certificates = {package for path, package in found if CERTIFICATES in path.parents}
    assert {package for path, package in found if path == PLUGIN} == {"pytest"}
    assert of_certificates - DEPENDENCIES == TLS_DEPENDENCIES
    assert {
        package for path, package in found if path != PLUGIN and CERTIFICATES not in path.parents
    } == DEPENDENCIES


def test_the_tests_declare_what_they_import() -> None:
    """The extra `test` is enough to run the tests."""
    packages = {package for _, package in imported("tests", "examples")}
    assert packages - DEPENDENCIES == TEST_DEPENDENCIES - NOT_IMPORTED


def test_the_benchmarks_need_nothing_more() -> None:
    """Whom they measure in Python is imported where it is installed, and an extra of its own installs it."""
    assert {package for _, package in imported("benchmarks")} <= DEPENDENCIES
    assert declared(PROJECT["optional-dependencies"]["benchmarks"]) == {
        name
        for path in (ROOT / "benchmarks" / "programs").glob("*.py")
        for name in re.findall(r'import_module\("(\w+)"\)', path.read_text())
    }


@pytest.mark.parametrize("name", ["hypercorn", "quart", "quart-trio", "hpack"])
def test_what_is_overridden_has_an_upper_bound(name: str) -> None:
    """Inner methods change without notice."""
    (requirement,) = (text for text in PROJECT["dependencies"] if re.match(rf"{name}[<>=]", text))
    assert "<" in requirement
