"""The contexts in use, and how new ones take their place while the program runs."""

import logging
from collections.abc import Callable, Mapping
from typing import NoReturn

import trio

from raftkv_trio.errors import ConfigError
from raftkv_trio.logs import NAMES_FIELDS
from raftkv_trio.sync import Wakeup
from raftkv_trio.tls.contexts import Contexts, Files, make_contexts
from raftkv_trio.world import ThreadWorker, Worker

logger = logging.getLogger(__name__)

#: How often the files are looked at: a replaced certificate is in use soon, also if nobody says so.
POLL_S = 10.0


class Credentials:
    """What one side of this process shows and trusts, as its files have it.

    Attributes:
        contexts: those in use. Take them anew for each connection.
        reloads, failed_reloads: how often new files were taken, and how often they were not.

    Args:
        what: whose they are, for the log.
        changed: called after new contexts have taken the place of others.
    """

    def __init__(
        self, files: Files, contexts: Contexts, seen: Mapping[str, bytes], worker: Worker, what: str
    ) -> None:
        self.contexts = contexts
        self.reloads = self.failed_reloads = 0
        self.changed: Callable[[], None] = lambda: None
        self._files = files
        self._seen: Mapping[str, bytes] | None = seen
        self._worker = worker
        self._what = what
        self._asked = Wakeup()
        self._told: str | None = None

    @classmethod
    async def load(cls, files: Files, what: str, worker: Worker | None = None) -> "Credentials":
        """Read the files for the first time; raises ConfigError. Cancellation leaves nothing behind."""
        worker = worker or ThreadWorker()
        seen, contexts = await worker.run(_read_and_make, files)
        return cls(files, contexts, seen, worker, what)

    def reload(self) -> None:
        """Have the files looked at now, by `keep_current`."""
        self._asked.set()

    async def keep_current(self) -> NoReturn:
        """Take new files when they change, until cancelled. What is wrong with them is logged, once."""
        while True:
            with trio.move_on_after(POLL_S) as poll:
                await self._asked.wait()
            await self.take_changed(says_so=not poll.cancelled_caught)

    async def take_changed(self, *, says_so: bool = False) -> None:
        """Look at the files; if they have changed, make new contexts, and put them in the place of the old.

        Args:
            says_so: whether the log says so too if nothing has changed, or the same is wrong as before.
        """
        try:
            seen = await self._worker.run(self._files.read)
            if seen == self._seen:
                if says_so:
                    logger.info("%s: the files have not changed", self._what)
                return
            # If a file changes after this, it differs from what was seen, and is taken the next time.
            contexts = await self._worker.run(make_contexts, self._files)
        except ConfigError as error:
            self._has_failed(str(error), says_so)
            return
        self._seen, self._told, self.contexts = seen, None, contexts
        self.reloads += 1
        logger.info("%s: new certificates are in use", self._what)
        self.changed()

    def _has_failed(self, reason: str, says_so: bool) -> None:
        self.failed_reloads += 1
        if reason != self._told or says_so:
            self._told = reason
            logger.error(
                "%s: %s; the certificates of before stay in use", self._what, reason, extra=NAMES_FIELDS
            )


def _read_and_make(files: Files) -> tuple[Mapping[str, bytes], Contexts]:
    return files.read(), make_contexts(files)
