"""The public API is whole: whatever its docstrings name can be imported, and each name has a docstring."""

import ast
import builtins
import enum
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trio

PACKAGE = Path(__file__).parents[1] / "raftkv_trio"
MODULES = [
    importlib.import_module(name)
    for name in ("raftkv_trio", "raftkv_trio.kv", "raftkv_trio.raft", "raftkv_trio.testing")
]
PUBLIC = {name: getattr(module, name) for module in MODULES for name in module.__all__}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}

#: Words in backticks that name nothing of ours, and why.
FOREIGN = {
    "started": "the method of a Trio task status",
}


def own_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith("raftkv_trio")]


def documented(name: str, value: object) -> Iterator[tuple[str, object, type | None]]:
    """A public name, and if it is a class its public methods and properties: path, object, class."""
    if isinstance(value, type):
        yield name, value, value
        for base in own_bases(value):
            for attribute, member in vars(base).items():
                is_described = inspect.isfunction(member) or isinstance(
                    member, property | classmethod | staticmethod
                )
                if is_described and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", getattr(value, attribute, member), value
    elif inspect.isfunction(value):
        yield name, value, None


DOCUMENTED = [
    pytest.param(module, *found, id=f"{module.__name__}.{found[0]}")
    for module in MODULES
    for name in module.__all__
    for found in documented(name, getattr(module, name))
]


def docstring(value: object) -> str:
    """The docstring in the source; dataclasses, NamedTuples and Enums have a generated one otherwise."""
    text = inspect.getdoc(value) or ""
    if isinstance(value, type):
        is_generated = text.startswith(f"{value.__name__}(") or "__doc__" not in vars(value)
        if is_generated or (issubclass(value, enum.Enum) and text == "An enumeration."):
            return ""
    return text


def attributes_of(cls: type) -> set[str]:
    """What an instance has: methods, fields, and what `__init__` assigns."""
    names = set(dir(cls))
    for base in own_bases(cls):
        names |= set(inspect.get_annotations(base))
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        names |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
    return names


def parameters_of(value: object) -> set[str]:
    """The parameters of a function or method, or of all methods of a class."""
    if isinstance(value, type):
        return set().union(*(parameters_of(getattr(value, name)) for name in vars(value)))
    if inspect.isfunction(value) or inspect.ismethod(value):
        return set(inspect.signature(value).parameters)
    return set()


def named_classes() -> set[str]:
    """All classes of the package whose name is no plain English word."""
    return {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and re.search(r"[a-z][A-Z]", node.name)
    }


NAMED_CLASSES = named_classes()


def is_known(word: str, module: ModuleType, value: object, cls: type | None) -> bool:
    """Whether a reader can find this: a public name, or an attribute or parameter of what is described."""
    root, *path = word.split(".")
    if not path:
        if (
            root in PUBLIC
            or root in FOREIGN
            or root == "raftkv_trio"
            or hasattr(builtins, root)
            or hasattr(trio, root)
        ):
            return True
        if root in parameters_of(value) or (
            cls is not None and root in attributes_of(cls) | parameters_of(cls)
        ):
            return True
        return any(root in attributes_of(known) for known in CLASSES.values()) if root.islower() else False
    if root in sys.stdlib_module_names or root == "trio":
        return True
    if (Path(str(module.__file__)).parent / f"{root}.py").exists():  # a place in the code to read on
        return path == ["py"] or hasattr(importlib.import_module(f"{module.__name__}.{root}"), path[0])
    if root == "raftkv_trio":
        return any(word == known.__name__ or word.rpartition(".")[0] == known.__name__ for known in MODULES)
    owner = PUBLIC.get(root) or PUBLIC.get(root.capitalize())  # `Message.to`, or `message.to` of an instance
    return isinstance(owner, type) and path[0] in attributes_of(owner)


def words_of(text: str) -> set[str]:
    """What a docstring names: identifiers in backticks, and classes of ours without them."""
    identifiers = {word.removesuffix("()") for word in re.findall(r"`([A-Za-z_][\w.]*(?:\(\))?)`", text)}
    return identifiers | set(re.findall(r"\b[A-Z]\w+\b", re.sub(r"`[^`]*`", "", text))) & NAMED_CLASSES


@pytest.mark.parametrize(("module", "path", "value", "cls"), DOCUMENTED)
def test_what_is_named_can_be_found(module: ModuleType, path: str, value: object, cls: type | None) -> None:
    """Each public name has a docstring; identifiers in backticks, and our classes, are public too."""
    text = docstring(value)
    assert text, f"{path} has no docstring"
    assert [word for word in sorted(words_of(text)) if not is_known(word, module, value, cls)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_modules_name_what_they_have(module: ModuleType) -> None:
    """The same for the docstrings of the four public packages; and their `__all__` is sorted."""
    words = words_of(module.__doc__ or "")
    assert [
        word
        for word in sorted(words)
        if not hasattr(module, word) and not is_known(word, module, module, None)
    ] == []
    assert list(module.__all__) == sorted(set(module.__all__), key=ruff_order)


def ruff_order(name: str) -> tuple[int, str]:
    """Constants, classes, then all others, as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_all_errors_are_public() -> None:
    """Whoever catches an error of the library can import it."""
    errors = importlib.import_module("raftkv_trio.errors")
    kinds = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert kinds <= PUBLIC.keys()


def test_names_are_loaded_when_they_are_used() -> None:
    """`--version` imports neither Trio nor the node; and `dir` tells all names without importing them."""
    program = (
        "import sys, raftkv_trio, raftkv_trio.cli\n"
        "assert set(raftkv_trio.__all__) <= set(dir(raftkv_trio))\n"
        "print(*sorted({'trio', 'raftkv_trio.node', 'httpx', 'quart'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
