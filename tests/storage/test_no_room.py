"""A disk that is full at every call that needs room: what can wait waits, else the node stops."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.storage import NodeStorage
from tests.storage.failing_disk import FailingDisk, without_room
from tests.storage.test_crash_points import DATA, go_on, held, reopen
from tests.storage.test_disk_errors import Life

#: What cannot wait: for its next segment the log has a spare, unless there was no time to make one.
URGENT = {"a first start", "the log's next segment", "a torn tail"}


class PatientLife(Life):
    """A life in which room is made, and the step done again, where the node would wait for that.

    Attributes:
        waited: how often.
    """

    waited = 0

    def take(self, step: Callable[[NodeStorage], None], storage: NodeStorage) -> None:
        try:
            step(storage)
        except OSError:
            self.waited += 1
            self.disk.mend()
            step(storage)


def urgency(path: Path, disk: FailingDisk) -> str:
    """What a file is for that could not be made or grow."""
    if DATA / "identity" not in disk.disk.files(Path("/")):
        return "a first start"
    return "a torn tail" if path.name.startswith("torn-") else {".wal": "the log's next segment"}[path.suffix]


@pytest.mark.parametrize("lasts", [False, True])
def test_without_room_what_can_wait_waits(lasts: bool) -> None:
    """Full for one call, or until room is made: the step is done then, or the error names the file."""
    outcomes: Counter[str] = Counter()
    for number in range(100_000):
        disk = without_room(number, lasts=lasts)
        life = PatientLife(disk)
        try:
            life.live()
        except (StorageError, ConfigError) as error:
            told = str(error)
        else:
            if disk.failed is None:
                break
            told = ""
        where = f"call {number}, {disk.culprit}"
        if told:
            outcomes[urgency(disk.culprit.path, disk)] += 1
            assert f"{disk.culprit.path}: No space left on device" in told, f"{where}: {told}"
        else:
            outcomes["waits"] += 1
            assert life.waited == 1, where
        life.close()
        assert not disk.open_files, where
        disk.disk.lose_power()
        found = held(reopen(disk.disk))
        assert found in life.begun, where
        go_on(disk.disk, found)
    print(f"{outcomes.total()} points: {', '.join([f'{n} {what}' for what, n in outcomes.most_common()])}")
    assert outcomes.keys() == {"waits", *URGENT}
