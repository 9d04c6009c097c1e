"""What the command line says of the mixed run; and Ctrl-C, which ends all of it."""

import random
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Out of a nursery Ctrl-C comes in a group, which pytest would take for a test that failed."""
    try:
        return (yield)
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
