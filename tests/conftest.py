"""Fixtures of all tests."""

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.ports import free_ports as find_free_ports

__all__ = ["find_free_ports"]  # what tests import from here

# A shell starts what is to run in the background deaf to SIGINT, and so would be all processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test of properties depends on how fast the machine is at the moment.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "faults on real nodes")
    group.addoption("--faults-seed", type=int, help="seed of the mixed run [a new one each time]")
    group.addoption("--faults-seconds", type=float, default=180.0, help="how long it is [%(default)s]")


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Gives TCP ports of the loopback that nobody has."""
    return find_free_ports
