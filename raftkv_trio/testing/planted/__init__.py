"""Does the simulator find real bugs? Bugs planted into the program, one at a time, answer that.

Each bug is a mistake that a programmer could have made. It replaces a function of the program while a `with`
block lasts. `raftkv-trio simulate --planted all` searches for every one of them.
"""

from collections.abc import Mapping

from raftkv_trio.testing.planted import (
    core_bugs,
    disk_bugs,
    lease_bugs,
    lock_bugs,
    membership_bugs,
    node_bugs,
    snapshot_bugs,
    store_bugs,
    task_bugs,
    watch_bugs,
)
from raftkv_trio.testing.planted.bug import PlantedBug, replaced

__all__ = ["PLANTED", "PlantedBug", "replaced"]

_MODULES = (
    disk_bugs,
    snapshot_bugs,
    core_bugs,
    membership_bugs,
    node_bugs,
    store_bugs,
    lease_bugs,
    watch_bugs,
    lock_bugs,
    task_bugs,
)
PLANTED: Mapping[str, PlantedBug] = {bug.name: bug for module in _MODULES for bug in module.BUGS}
