"""Files of a command's user, such as a backup or a key.

A new one is written whole, and in the place of nothing else; what is read is a regular file, of bounded size.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from raftkv_trio.errors import ConfigError


@contextmanager
def new_file(file: Path, *, replaces: bool, called: str | None = None) -> Iterator[Path]:
    """A new file, readable by this user only, that gets the name `file` at the end if nothing fails.

    It has a temporary name in the same directory meanwhile, which no other file has or gets. What is written
    to it must be durable when the block ends. Its mode is 0600, whatever the umask is, and whoever might read
    the file that it replaces.

    What appears under the name while the block runs, up to the last moment, is not replaced: it is somebody
    else's. One moment is left with `replaces`: between the last look at a regular file and the rename,
    somebody who may remove that file could put something else in its place.

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
        # Looked at again: a backup may take an hour, and somebody else may have made something meanwhile. If
        # it is made after this look, the name is not free, and the next look says what it is.
        has_name = False
        while not has_name:
            if check_new_file(file, replaces=replaces, called=called):
                temporary.replace(file)
                has_name = True
            else:
                has_name = _take_free_name(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(file.parent)


def check_new_file(file: Path, *, replaces: bool, called: str | None = None) -> bool:
    """Raise ConfigError if `new_file` would: the name is taken, or the directory takes no file.

    Returns whether there is a file of that name, which is to be replaced.
    """
    called = called or str(file)
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise ConfigError(f"{called} cannot be written: {error.strerror}; name another file") from error
    if mode is not None and not stat.S_ISREG(mode):
        raise ConfigError(f"{called} is not a regular file and is not replaced; name another file")
    if mode is not None and not replaces:
        raise ConfigError(f"{called} exists already; name another file, or set `force` to replace it")
    if not file.parent.is_dir():
        raise ConfigError(f"{called} cannot be written: there is no directory {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{called} cannot be written: {file.parent} is not yours to write to")
    return mode is not None


def open_no_link(path: str, flags: int) -> int:
    """An opener for a temporary file of `new_file`: not for what somebody else may have put in its place."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_durably(temporary: Path, data: bytes, mode: int) -> None:
    """Write a temporary file of `new_file`, with this mode whatever the umask is. Raises OSError."""
    with open(temporary, "wb", opener=open_no_link) as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def read_user_file(file: Path, *, max_bytes: int, is_private: bool, called: str | None = None) -> bytes:
    """The content of a regular file.

    Args:
        max_bytes: the most that the file may have.
        is_private: whether nobody may read or change it but its owner, and its group: a container platform
            gives a secret to the group of its pod.
        called: what errors call the file; None: its name.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it cannot be read, is no regular file, is too large, or others may read or change it.
    """
    called = called or str(file)
    try:
        # Not to be held up by a pipe that nobody writes to.
        with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(max_bytes + 1) if stat.S_ISREG(mode) else b""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {called}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{called} is no regular file")
    if is_private and mode & stat.S_IRWXO:
        raise ConfigError(f"{called} can be read or changed by other users; run `chmod o= {file}`")
    if len(data) > max_bytes:
        raise ConfigError(f"{called} has more than {max_bytes} bytes; name another file")
    return data


def _take_free_name(temporary: Path, file: Path) -> bool:
    """Give the temporary file a name that nothing has; False if something has it. Raises OSError."""
    # A rename would replace whatever has the name by now.
    try:
        os.link(temporary, file)
    except FileExistsError:
        return False
    except OSError:
        pass  # a file system without links, such as FAT; if it is something else, the next step fails too
    else:
        return True
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    try:
        temporary.replace(file)  # what has the name now is ours, and empty
    except OSError:
        file.unlink(missing_ok=True)
        raise
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
