"""The limit of open files, and how many clients it allows: a node without free files cannot write its log."""

import logging
import resource

from raftkv_trio.errors import ConfigError

logger = logging.getLogger(__name__)

#: Files kept free for the log, the snapshots, the peers, and Python.
RESERVED_FILES = 200


def make_room_for_clients(max_connections: int) -> int:
    """Raise this process's limit as far as these connections need it, and return how many it allows.

    Raises ConfigError if the hard limit, which only the system's administrator can raise, allows none.
    """
    needed = max_connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    allowed = soft - RESERVED_FILES
    if allowed < 1:
        raise ConfigError(
            f"only {soft} files may be open at once, and a node needs more than {RESERVED_FILES};"
            " raise the limit (ulimit -n)"
        )
    logger.warning(
        "only %d clients can connect at once because only %d files may be open (ulimit -n)", allowed, soft
    )
    return allowed
