"""A snapshot file that is open for reading, for a program that copies it elsewhere."""

from types import TracebackType

from raftkv_trio.storage import DiskFile
from raftkv_trio.world import Worker


class OpenSnapshot:
    """An open snapshot file; a context manager that closes it.

    Attributes:
        size_bytes: of the whole file.
    """

    def __init__(self, file: DiskFile, worker: Worker) -> None:
        self.size_bytes = file.size()
        self._file = file
        self._worker = worker

    async def read_at(self, offset: int, max_bytes: int) -> bytes:
        """Up to `max_bytes` from `offset` on; empty at the end of the file. Raises OSError.

        Cancellation lets the read finish, and drops what it has read.
        """
        return await self._worker.run(self._file.read_at, offset, max_bytes)

    def close(self) -> None:
        """Close the file, which may be removed from the data directory after that."""
        self._file.close()

    def __enter__(self) -> "OpenSnapshot":
        return self

    def __exit__(
        self, exc_type: type | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
