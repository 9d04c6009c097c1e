"""The simulated disk: as the real one while nothing goes wrong, and no kinder when something does."""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv_trio.storage import Disk, OsDisk
from raftkv_trio.storage.disk import DiskFile, write_whole_file
from raftkv_trio.testing.world.inodes import SECTOR_BYTES
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk

HOME = Path("/home")
LOG = HOME / "log"


class Script:
    """Random operations on a disk, drawn from a seed; `told` is what the disk answered."""

    def __init__(self, disk: Disk, root: Path, seed: int) -> None:
        self._disk = disk
        self._root = root
        self._random = random.Random(seed)
        self._files: list[DiskFile] = []
        self.told: list[tuple[str, object]] = []

    def run(self, operations: int) -> list[tuple[str, object]]:
        self._disk.make_directory(self._root)
        for _ in range(operations):
            name, act = self._draw()
            try:
                self.told.append((name, act()))
            except OSError as error:
                self.told.append((name, errno.errorcode[error.errno or 0]))
        return self.told

    def _path(self) -> Path:
        return self._root.joinpath(*(self._random.choice("ab") for _ in range(self._random.randint(1, 3))))

    def _draw(self) -> tuple[str, Callable[[], object]]:
        disk, path, other, number = self._disk, self._path(), self._path(), self._random.randrange(2000)
        if self._files and self._random.random() < 0.6:
            file = self._random.choice(self._files)
            data = self._random.randbytes(self._random.randrange(1500))
            return self._random.choice(
                [
                    ("read", lambda: file.read_at(number, 1000)),
                    ("write", lambda: file.write_at(number, data)),
                    ("preallocate", lambda: file.preallocate(number + 1)),
                    ("size", file.size),
                    ("sync", file.datasync),
                    ("lock", file.lock),
                    ("close", lambda: self._close(file)),
                ]
            )
        create = self._random.random() < 0.7
        return self._random.choice(
            [
                ("make_directory", lambda: disk.make_directory(path)),
                ("exists", lambda: disk.exists(path)),
                ("list", lambda: disk.list_directory(path)),
                ("open", lambda: self._files.append(disk.open(path, create=create))),
                ("open", lambda: self._files.append(disk.open(path, create=create))),
                ("rename", lambda: disk.rename(path, other)),
                ("unlink", lambda: disk.unlink(path)),
                ("sync_directory", lambda: disk.sync_directory(path)),
            ]
        )

    def _close(self, file: DiskFile) -> None:
        self._files.remove(file)
        file.close()

    def close(self) -> None:
        while self._files:
            self._close(self._files[0])


@pytest.mark.parametrize("seed", range(16))
def test_it_answers_as_the_real_disk(seed: int, tmp_path: Path) -> None:
    """The same 300 random operations have the same results and errors on both."""
    real, simulated = Script(OsDisk(), tmp_path, seed), Script(SimulatedDisk(random.Random(1)), HOME, seed)
    try:
        assert simulated.run(300) == real.run(300)
    finally:
        real.close()


def test_the_script_reaches_every_operation(tmp_path: Path) -> None:
    """What the comparison rests on: over its seeds each operation succeeds often, and each error occurs."""
    told = [t for seed in range(40) for t in Script(SimulatedDisk(random.Random(1)), HOME, seed).run(300)]
    names = [name for name, answer in told if not isinstance(answer, str)]
    assert all(names.count(name) > 50 for name in set(names))
    errors = {answer for _, answer in told if isinstance(answer, str)}
    assert {"ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY", "EINVAL"} <= errors


def disk_with(data: bytes, *, seed: int = 1) -> tuple[SimulatedDisk, DiskFile]:
    """A disk with one durable file, `LOG`, and the file, open."""
    disk = SimulatedDisk(random.Random(seed))
    disk.make_directory(HOME)
    disk.sync_directory(Path("/"))
    file = disk.open(LOG, create=True)
    file.write_at(0, data)
    file.datasync()
    disk.sync_directory(HOME)
    return disk, file


def content(disk: SimulatedDisk) -> bytes:
    return disk.files(HOME)[LOG]


def test_what_was_synced_survives() -> None:
    """A loss of power takes nothing that was synced, and leaves no handle of any use."""
    disk, file = disk_with(b"x" * 5000)
    disk.lose_power()
    assert content(disk) == b"x" * 5000
    with pytest.raises(Halted):
        file.read_at(0, 1)


def test_each_unsynced_sector_survives_or_not() -> None:
    """After a loss of power every sector is whole, in a form it had since the sync; all mixtures occur."""
    seen = set()
    for seed in range(200):
        disk, file = disk_with(b"0" * 3 * SECTOR_BYTES, seed=seed)
        file.write_at(0, b"1" * 3 * SECTOR_BYTES)
        file.write_at(SECTOR_BYTES, b"2" * SECTOR_BYTES)
        disk.lose_power()
        sectors = [content(disk)[i : i + SECTOR_BYTES] for i in range(0, 3 * SECTOR_BYTES, SECTOR_BYTES)]
        assert all(len(set(sector)) == 1 for sector in sectors)
        seen.add(bytes(sector[0] for sector in sectors))
    assert seen == {bytes([a, b, c]) for a in b"01" for b in b"012" for c in b"01"}


def test_a_sector_is_never_torn() -> None:
    """A write inside a sector is there with its surroundings, or not at all."""
    seen = set()
    for seed in range(20):
        disk, file = disk_with(b"0" * SECTOR_BYTES, seed=seed)
        file.write_at(100, b"1" * 10)
        disk.lose_power()
        seen.add(content(disk).replace(b"0", b""))
    assert seen == {b"", b"1" * 10}


def test_an_unsynced_size_survives_or_not() -> None:
    """After a loss of power a file that has grown has a size that it had; what is new is there or zero."""
    seen = set()
    for seed in range(100):
        disk, file = disk_with(b"0" * 100, seed=seed)
        file.write_at(100, b"1" * 100)
        file.write_at(200, b"1" * 400)
        disk.lose_power()
        assert content(disk).startswith(b"0" * 100)
        assert not content(disk)[100:].strip(b"1\0")
        seen.add(len(content(disk)))
    assert seen == {100, 200, 600}


def test_names_that_were_not_synced_survive_or_not() -> None:
    """Each create, rename and unlink is kept or lost on its own; a rename is never half done."""
    seen = set()
    for seed in range(200):
        disk, _ = disk_with(b"old", seed=seed)
        disk.open(HOME / "new", create=True)
        disk.rename(LOG, HOME / "moved")
        disk.lose_power()
        names = disk.list_directory(HOME)
        assert ("log" in names) != ("moved" in names)
        seen.add(tuple(names))
    assert seen == {("log",), ("moved",), ("log", "new"), ("moved", "new")}


def test_synced_names_survive() -> None:
    """After `sync_directory` its names are as they were, and no others."""
    for seed in range(20):
        disk, _ = disk_with(b"old", seed=seed)
        disk.open(HOME / "new", create=True)
        disk.rename(LOG, HOME / "moved")
        disk.unlink(HOME / "new")
        disk.sync_directory(HOME)
        disk.lose_power()
        assert disk.list_directory(HOME) == ["moved"]


def test_a_directory_in_an_unsynced_one_is_lost_with_it() -> None:
    """To sync a directory does not make the directory itself durable: that is its parent's sync."""
    survived = set()
    for seed in range(40):
        disk = SimulatedDisk(random.Random(seed))
        disk.make_directory(Path("/a/b"))
        disk.sync_directory(Path("/a"))
        disk.lose_power()
        survived.add(disk.exists(Path("/a/b")))
    assert survived == {True, False}


def test_a_whole_file_is_replaced_or_not() -> None:
    """`write_whole_file`, interrupted at any operation by a loss of power, leaves the old or new content."""
    seen = set()
    for seed in range(300):
        disk, _ = disk_with(b"old" * 1000, seed=seed)
        disk.halt_at(seed % 10, power=True)
        try:
            write_whole_file(disk, LOG, b"new" * 2000)
        except Halted:
            seen.add(content(disk)[:3])
            assert content(disk) in (b"old" * 1000, b"new" * 2000)
        else:
            disk.lose_power()
            assert content(disk) == b"new" * 2000
    assert seen == {b"old", b"new"}


def test_a_killed_process_leaves_the_page_cache() -> None:
    """After `kill` everything written is read; a loss of power after that may still take it."""
    lost = set()
    for seed in range(20):
        disk, file = disk_with(b"0" * 10, seed=seed)
        file.write_at(0, b"1")
        disk.kill()
        assert content(disk) == b"1000000000"
        disk.lose_power()
        lost.add(content(disk))
    assert lost == {b"0000000000", b"1000000000"}


def test_a_failed_sync_is_not_mended_by_a_second_one() -> None:
    """What a failed sync did not write is not written by a later one that succeeds (as on Linux)."""
    seen = set()
    for seed in range(40):
        disk, file = disk_with(b"0", seed=seed)
        file.write_at(0, b"1")
        disk.fail_at(0, errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            file.datasync()
        file.datasync()
        assert file.read_at(0, 1) == b"1"
        disk.lose_power()
        seen.add(content(disk))
    assert seen == {b"0", b"1"}


def test_no_room() -> None:
    """With no bytes free nothing grows, but what is preallocated can be written, and all can be read."""
    disk, file = disk_with(b"0" * 10)
    file.preallocate(1000)
    disk.free_bytes = 100
    with pytest.raises(OSError, match="No space left"):
        file.preallocate(1101)
    file.write_at(500, b"1" * 500)
    with pytest.raises(OSError, match="No space left"):
        file.write_at(990, b"2" * 200)
    assert file.size() == 1100
    with pytest.raises(OSError, match="No space left"):
        file.write_at(1100, b"3")
    assert file.read_at(500, 1000) == b"1" * 490 + b"2" * 110


def test_a_lock_is_held_until_it_is_closed_or_halted() -> None:
    """One handle of a file has its lock, until it is closed or its process ends."""
    disk, first = disk_with(b"")
    second, third = disk.open(LOG), disk.open(LOG)
    assert [first.lock(), second.lock(), first.lock()] == [True, False, True]
    first.close()
    assert [second.lock(), third.lock()] == [True, False]
    disk.kill()
    assert disk.open(LOG).lock()


def test_a_flipped_bit_is_one_bit() -> None:
    """`flip_bit` changes one bit of what is read, whether before or after a loss of power, and says which."""
    for seed in range(20):
        disk, _ = disk_with(b"x" * 3000, seed=seed)
        where = disk.flip_bit(HOME)
        assert where is not None
        disk.lose_power()
        wrong = [(i, byte ^ ord("x")) for i, byte in enumerate(content(disk)) if byte != ord("x")]
        assert [f"{LOG}, offset {i}, bit {mask.bit_length() - 1}" for i, mask in wrong] == [where]
        assert wrong[0][1].bit_count() == 1


def test_the_same_seed_does_the_same() -> None:
    """Two disks with the same random numbers lose the same."""
    contents = []
    for _ in range(2):
        disk, file = disk_with(b"0" * 20_000, seed=5)
        file.write_at(0, b"1" * 20_000)
        disk.halt_at(0, power=True)
        with pytest.raises(Halted):
            file.datasync()
        contents.append(disk.files(HOME))
    assert contents[0] == contents[1]
