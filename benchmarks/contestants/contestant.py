"""What a measurement may know about a contestant."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Daemon


@dataclass(slots=True)
class Running:
    """A contestant that has started.

    Attributes:
        url: where its leader answers.
        leader: the process of the leader.
        daemons: all processes.
    """

    url: str
    leader: Daemon
    daemons: list[Daemon]


class Contestant(Protocol):
    """Something that answers GET and PUT over HTTP, in the way that its `api` says.

    Attributes:
        name: in the table.
        api: as `wrk.Load.api`.
    """

    @property
    def name(self) -> str: ...

    @property
    def api(self) -> str: ...

    def why_missing(self) -> str | None:
        """Why it cannot be started here; None if it can."""
        ...

    def started(self, directory: Path) -> AbstractContextManager[Running]:
        """Start it with empty data in `directory`; its processes end with the block.

        Raises BenchmarkError if it does not start.
        """
        ...

    def fill_request(self, key: int, value: bytes) -> tuple[str, str, bytes] | None:
        """Method, path and content that write one key; None if it keeps no keys."""
        ...
