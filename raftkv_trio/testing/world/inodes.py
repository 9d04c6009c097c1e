"""What a simulated disk holds: contents and names as processes see them, and as the disk may have them."""

from dataclasses import dataclass, field
from random import Random

SECTOR_BYTES = 512


@dataclass(eq=False, slots=True)
class Inode:
    """A file's content as processes read it, and the older forms that may be on the disk instead.

    Attributes:
        unsynced: by sector, the older forms that the disk may have instead of the present one, oldest first.
        doomed: the same for sectors whose sync has failed: a later sync does not write them again.
        sizes: the older sizes that the disk may have.
        locked_by: the open file that holds the lock.
    """

    data: bytearray = field(default_factory=bytearray)
    unsynced: dict[int, list[bytes]] = field(default_factory=dict)
    doomed: dict[int, list[bytes]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    locked_by: object | None = None

    def sector(self, number: int) -> bytes:
        """One sector as processes read it; the last may be shorter."""
        return bytes(self.data[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES])

    def resize(self, size_bytes: int) -> None:
        """Grow to this size, with zeros; never shrink."""
        if size_bytes > len(self.data):
            self.sizes.append(len(self.data))
            self.data.extend(bytes(size_bytes - len(self.data)))

    def write(self, offset: int, data: bytes) -> None:
        """Write into the page cache; the old forms of its sectors may stay on the disk until a sync."""
        self.resize(offset + len(data))
        for number in range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)):
            forms = self.doomed.pop(number, []) + self.unsynced.get(number, [])
            self.unsynced[number] = [*forms, self.sector(number)]
        self.data[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Make the present content durable, except sectors whose sync has failed before."""
        self.unsynced.clear()
        self.sizes.clear()

    def fail_sync(self, random: Random) -> None:
        """Make some sectors durable; the others stay in the page cache only, marked clean (as on Linux)."""
        for number, forms in self.unsynced.items():
            if random.random() < 0.5:
                self.doomed[number] = forms
        self.unsynced.clear()

    def lose_power(self, random: Random) -> None:
        """Keep of each sector, and of the size, one of the forms that the disk may have."""
        for number, forms in sorted({**self.unsynced, **self.doomed}.items()):
            form = random.choice([*forms, self.sector(number)])
            start = number * SECTOR_BYTES
            end = min(start + SECTOR_BYTES, len(self.data))
            self.data[start:end] = form.ljust(SECTOR_BYTES, b"\0")[: end - start]
        if self.sizes:
            del self.data[random.choice([*self.sizes, len(self.data)]) :]
        self.unsynced.clear()
        self.doomed.clear()
        self.sizes.clear()


@dataclass(eq=False, slots=True)
class Directory:
    """Names as processes see them, and as they are on the disk."""

    names: dict[str, "Inode | Directory"] = field(default_factory=dict)
    durable: dict[str, "Inode | Directory"] = field(default_factory=dict)

    def forget_unsynced(self) -> None:
        """Keep only the durable names, here and below."""
        self.names = dict(self.durable)
        for node in self.names.values():
            if isinstance(node, Directory):
                node.forget_unsynced()


Node = Inode | Directory


def copied(node: Node) -> Node:
    """A copy of all that processes read here, durable as it is."""
    if isinstance(node, Inode):
        return Inode(bytearray(node.data))
    names = {name: copied(below) for name, below in node.names.items()}
    return Directory(names, dict(names))


@dataclass(eq=False, slots=True)
class Change:
    """Names that are set or removed (None) together: all of them survive a loss of power, or none."""

    names: list[tuple[Directory, str, Node | None]]

    def apply(self, *, durably: bool) -> None:
        """Set and remove the names: as processes see them, or on the disk."""
        for directory, name, node in self.names:
            entries = directory.durable if durably else directory.names
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node

    def touches(self, directory: Directory) -> bool:
        """Whether it changes a name in this directory."""
        return any(d is directory for d, _, _ in self.names)

    def shares_name(self, other: "Change") -> bool:
        """Whether both change the same name."""
        return any(d is e and name == n for d, name, _ in self.names for e, n, _ in other.names)
