"""Ports for nodes that end and start again, of the benchmarks and of the tests."""

import os
import random
import socket

_given: set[int] = set()
#: Of how many processes that look for ports at the same time, and which of them this is.
_SHARES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_SHARE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has, below those that systems give to connections; none twice.

    A node that is down must find its port free when it is started again: nobody's connection may have it
    meanwhile, not even one that was meant for that node and was given its port on this side. Each of
    pytest's workers has ports of its own.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_000, 32_768)
        if port in _given or port % _SHARES != _SHARE:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        ports.append(port)
    return ports
