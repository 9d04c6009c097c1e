"""Proposals into a node, without HTTP: three processes, a thousand outstanding, commands of 100 bytes."""

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.ports import free_ports
from benchmarks.processes import Daemon, stopping, wait_until

OURS = "raftkv-trio, run_node, durable"
PYSYNCOBJ = "PySyncObj, log in memory"
OUTSTANDING, COMMAND_BYTES = 1000, 100
_PARAMETERS = {"outstanding": OUTSTANDING, "value_bytes": COMMAND_BYTES}


def why_pysyncobj_is_missing() -> str | None:
    """None if it can be imported."""
    if importlib.util.find_spec("pysyncobj") is not None:
        return None
    return "PySyncObj is not installed (pip install raftkv-trio[benchmarks])"


def measure_ours(seconds: float, figures: Figures, directory: Path) -> None:
    """One round of ours."""
    cluster = ",".join(f"http://127.0.0.1:{port}" for port in free_ports(3))
    program = [sys.executable, "-m", "benchmarks.programs.proposer"]
    what = [str(OUTSTANDING), str(COMMAND_BYTES), str(seconds)]
    commands = [[*program, str(i), cluster, str(directory / f"node-{i}"), *what] for i in (1, 2, 3)]
    figures.add("propose", OURS, _PARAMETERS, rate_per_s=_rate(commands, seconds, directory))


def measure_pysyncobj(seconds: float, figures: Figures, directory: Path) -> None:
    """One round of PySyncObj: whichever of its two ways to send commands is faster."""
    rates = []
    for batches in ("1", "0"):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        program = [sys.executable, "-m", "benchmarks.programs.pysyncobj_proposer"]
        what = [str(OUTSTANDING), str(COMMAND_BYTES), str(seconds), batches]
        commands = [
            [*program, *what, own, *(other for other in addresses if other != own)] for own in addresses
        ]
        within = directory / f"pysyncobj-{batches}"
        within.mkdir()
        rates.append(_rate(commands, seconds, within))
    figures.add("propose", PYSYNCOBJ, _PARAMETERS, rate_per_s=max(rates))


def _rate(commands: Sequence[Sequence[str]], seconds: float, directory: Path) -> float:
    """Start the processes, and wait for the rate that the one that leads prints."""
    logs = [directory / f"proposer-{number}.log" for number in range(len(commands))]
    daemons: list[Daemon] = []
    rates: list[float] = []

    def has_rate() -> bool:
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        rates[:] = [json.loads(line)["rate_per_s"] for line in lines if line.startswith('{"rate_per_s"')]
        return bool(rates)

    with stopping(daemons):
        for command, log in zip(commands, logs, strict=True):
            daemons.append(Daemon(command, log))
        wait_until(has_rate, "no process prints its rate", daemons, timeout_s=seconds + 60)
    return rates[0]
