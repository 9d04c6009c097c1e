"""Files that a command writes for its user, such as a backup: whole, and in the place of nothing else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from tempfile import mkstemp

from raftkv_trio.errors import ConfigError


@contextmanager
def new_file(file: Path, *, replaces: bool, called: str | None = None) -> Iterator[Path]:
    """A new file, readable by this user only, that gets the name `file` at the end if nothing fails.

    It has a temporary name in the same directory meanwhile, which no other file has or gets. What is written
    to it must be durable when the block ends.

    Args:
        replaces: whether a regular file of that name is replaced. Nothing else is, whatever this says: a
            rename would put a file in the place of a device, a pipe or a link.
        called: what errors call the file; None: its name.

    Raises ConfigError, before the block and at its end, as `check_new_file` does. At an error, or a
    cancellation, the temporary file is removed and `file` is as it was.
    """
    called = called or str(file)
    check_new_file(file, replaces=replaces, called=called)
    try:
        # O_CREAT with O_EXCL and O_NOFOLLOW, mode 0600.
        descriptor, name = mkstemp(prefix=f"{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise ConfigError(f"{called} cannot be written: {error.strerror}; name another file") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # Again: a backup may take an hour, and what somebody else has made meanwhile is not ours to replace.
        check_new_file(file, replaces=replaces, called=called)
        temporary.replace(file)
        _sync_directory(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_new_file(file: Path, *, replaces: bool, called: str | None = None) -> None:
    """Raise ConfigError if `new_file` would: the name is taken, or the directory takes no file."""
    called = called or str(file)
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise ConfigError(f"{called} cannot be written: {error.strerror}; name another file") from error
    if mode is not None and not S_ISREG(mode):
        raise ConfigError(f"{called} is not a regular file and is not replaced; name another file")
    if mode is not None and not replaces:
        raise ConfigError(f"{called} exists already; name another file, or set `force` to replace it")
    if not file.parent.is_dir():
        raise ConfigError(f"{called} cannot be written: there is no directory {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{called} cannot be written: {file.parent} is not yours to write to")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
