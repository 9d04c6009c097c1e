"""Fixtures of all tests."""

import random
import signal
import socket
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

_GIVEN: set[int] = set()  # no port is given twice in a run

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


def find_free_ports(count: int) -> list[int]:
    """Ports below those that systems give to connections.

    A node that is down must find its port free when it is started again: nobody's connection may have it
    meanwhile, not even one that was meant for that node and was given its port on this side.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _GIVEN:
            _GIVEN.add(port)
            ports.append(port)
    return ports
