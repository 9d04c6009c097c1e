"""State machines for tests of nodes."""

from collections.abc import Iterable, Iterator, Sequence

from raftkv_trio import Committed


class Commands:
    """A state machine that is the list of its commands; a result is their number."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, batch: Sequence[Committed]) -> list[int]:
        self.commands.extend(committed.command for committed in batch)
        return [len(self.commands)] * len(batch)

    def snapshot(self) -> Iterator[bytes]:
        return iter(list(self.commands))

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = list(chunks)
