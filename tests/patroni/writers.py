"""Clients that write to both databases all the time, whatever these are, and note what was acknowledged."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.patroni.databases import Database

INTERVAL_S = 0.2
#: A commit that waits for a standby that is gone goes on when Patroni has taken that from the list.
WRITE_S = 5.0
TABLE = "create table if not exists written (id text primary key)"


class Write(NamedTuple):
    """An acknowledged commit.

    Attributes:
        id: of the row.
        database: that acknowledged it.
        timeline: of PostgreSQL: each fail-over begins a new one.
        begin_s: when it was asked for, by the monotonic clock.
        end_s: when it was acknowledged.
    """

    id: str
    database: str
    timeline: int
    begin_s: float
    end_s: float


class Writers:
    """One thread for each database, which tries to commit a row several times a second."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = databases
        self._writes: list[Write] = []
        self._changed = threading.Condition()
        self._is_over = threading.Event()

    @property
    def writes(self) -> Sequence[Write]:
        """All that were acknowledged so far, in the order of their acknowledgements."""
        with self._changed:
            return sorted(self._writes, key=lambda write: write.end_s)

    def wait(self, begun_after_s: float, timeout_s: float, *, after_timeline: int = 0) -> Write:
        """The first write that began after a time, on a later timeline; waits until there is one."""

        def found() -> Write | None:
            writes = (w for w in self.writes if w.begin_s > begun_after_s and w.timeline > after_timeline)
            return next(writes, None)

        with self._changed:
            write = self._changed.wait_for(found, timeout_s)
        assert write is not None, f"nothing is written after {timeout_s} s"
        return write

    @contextmanager
    def run(self) -> Iterator[None]:
        """Write as long as the block runs."""
        threads = [threading.Thread(target=self._run, args=[database]) for database in self._databases]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _run(self, database: Database) -> None:
        number = 0
        while not self._is_over.wait(INTERVAL_S):
            number += 1
            row = f"{database.name}-{number}"
            # Eight digits of the name of a segment of the log are its timeline.
            insert = (
                f"insert into written values ('{row}')"
                " returning substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
            )
            begin_s = time.monotonic()
            timeline = database.run_sql(insert, WRITE_S)
            if timeline:
                with self._changed:
                    end_s = time.monotonic()
                    self._writes.append(Write(row, database.name, int(timeline, 16), begin_s, end_s))
                    self._changed.notify_all()
