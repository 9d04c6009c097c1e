"""What the command line says of the mixed run; Ctrl-C, which ends all; skipped tests, which say why."""

import random
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Out of a nursery Ctrl-C comes in a group, which pytest would take for a test that failed.

    Of a test that was skipped pytest-trio hides why, in the same way.
    """
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        leaf: BaseException | None = skipped.__context__
        while isinstance(leaf, BaseExceptionGroup):
            (leaf,) = leaf.exceptions
        raise skipped if leaf is None else leaf from None
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from group
        raise


@pytest.fixture
def faults_seed(pytestconfig: pytest.Config) -> int:
    seed: int | None = pytestconfig.getoption("--faults-seed")
    return random.randrange(2**32) if seed is None else seed


@pytest.fixture
def faults_seconds(pytestconfig: pytest.Config) -> float:
    seconds: float = pytestconfig.getoption("--faults-seconds")
    return seconds
