"""What the command line says of the mixed run."""

import random

import pytest


@pytest.fixture
def faults_seed(pytestconfig: pytest.Config) -> int:
    seed: int | None = pytestconfig.getoption("--faults-seed")
    return random.randrange(2**32) if seed is None else seed


@pytest.fixture
def faults_seconds(pytestconfig: pytest.Config) -> float:
    seconds: float = pytestconfig.getoption("--faults-seconds")
    return seconds
