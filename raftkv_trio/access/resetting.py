"""What `raftkv-trio auth reset` has asked for while the node was stopped: that users be checked no longer.

The change is an entry of the log, as all others, so that all members have the same users. The note that asks
for it is removed when the entry is applied, or refused.
"""

import logging
from pathlib import Path

import trio

from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.errors import ProposalError
from raftkv_trio.kv import AUTH_LEVEL, SERVER, AuthChanged, ResetAuth, encode_command
from raftkv_trio.storage import Disk, OsDisk
from raftkv_trio.storage.small_files import AUTH_RESET, read_auth_reset, remove_auth_reset
from raftkv_trio.world import Clock, TrioClock

logger = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0


async def settle_auth_reset(
    replicated: ReplicatedStore, directory: Path, *, disk: Disk | None = None, clock: Clock | None = None
) -> None:
    """Have authentication disabled, if the data directory asks for it, as soon as a leader can do so.

    Cancellation leaves the note, unless it is settled. Raises CorruptLog and OSError.
    """
    disk, clock = disk or OsDisk(), clock or TrioClock()
    revision = read_auth_reset(disk, directory)
    if revision is None:
        return
    logger.warning("%s asks for authentication to be disabled; it is, when there is a leader", AUTH_RESET)
    while True:
        try:
            await replicated.wait_readable()
            if replicated.store.level >= AUTH_LEVEL:
                result = (await replicated.write(encode_command(ResetAuth(revision), SERVER))).result
                break
        except ProposalError as error:
            logger.debug("authentication was not disabled: %s", error)  # the next round tries again
        await clock.sleep_until(clock.now() + RETRY_INTERVAL_S)
    if isinstance(result, AuthChanged):
        logger.warning("authentication is disabled, as %s has asked: everybody may do everything", AUTH_RESET)
    else:
        logger.error(
            "authentication was not disabled: users or roles have changed since `auth reset` looked at them;"
            " stop this node, and run it again"
        )
    await trio.to_thread.run_sync(remove_auth_reset, disk, directory)
