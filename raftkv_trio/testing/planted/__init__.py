"""Bugs planted into the real code, one at a time, to see whether the simulator finds them.

Each is a mutation that somebody could have written, made by replacing a function of the program while a
`with` block lasts. A checker that finds none of them is worth nothing.
"""

from collections.abc import Mapping

from raftkv_trio.testing.planted import core, disk, members, node, snapshots, tasks
from raftkv_trio.testing.planted.bug import PlantedBug, replaced

__all__ = ["PLANTED", "PlantedBug", "replaced"]

PLANTED: Mapping[str, PlantedBug] = {
    bug.name: bug for part in (disk, snapshots, core, members, node, tasks) for bug in part.BUGS
}
