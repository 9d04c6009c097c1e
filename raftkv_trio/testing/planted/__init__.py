"""Bugs planted into the real code, one at a time, to see whether the simulator finds them.

Each is a mutation that somebody could have written, made by replacing a function of the program while a
`with` block lasts. A checker that finds none of them is worth nothing.
"""

from collections.abc import Mapping

from raftkv_trio.testing.planted import (
    core_bugs,
    disk_bugs,
    membership_bugs,
    node_bugs,
    snapshot_bugs,
    task_bugs,
)
from raftkv_trio.testing.planted.bug import PlantedBug, replaced

__all__ = ["PLANTED", "PlantedBug", "replaced"]

PLANTED: Mapping[str, PlantedBug] = {
    bug.name: bug
    for module in (disk_bugs, snapshot_bugs, core_bugs, membership_bugs, node_bugs, task_bugs)
    for bug in module.BUGS
}
