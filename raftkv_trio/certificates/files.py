"""The files of certificates: a directory with the CA, and with what it issued."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from raftkv_trio.certificates.authority import Authority, Issued
from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import check_new_file, new_file, read_user_file, write_durably

AUTHORITY = "ca"
MAX_FILE_BYTES = 1024 * 1024
PUBLIC_MODE, _PRIVATE_MODE = 0o644, 0o600


def read_authority(directory: Path) -> Authority:
    """The CA in a directory: `ca.crt` and `ca.key`.

    Raises ConfigError: a file is not there, cannot be read, is not what its name says, or others may read or
    change the key.
    """
    certificate, key = paths_of(directory, AUTHORITY)
    try:
        return Authority.load(
            read_user_file(certificate, max_bytes=MAX_FILE_BYTES, is_private=False),
            read_user_file(key, max_bytes=MAX_FILE_BYTES, is_private=True),
            called=str(certificate),
            key_called=str(key),
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"{error.filename} does not exist; name the directory of the CA with `certificates`, or make a"
            " CA with `raftkv-trio cert init`"
        ) from error


def paths_of(directory: Path, name: str) -> tuple[Path, Path]:
    """Where a certificate and its key are."""
    return directory / f"{name}.crt", directory / f"{name}.key"


def check_free(directory: Path, names: Iterable[str], *, force: bool) -> None:
    """Raise ConfigError if `write_issued` would for one of these names, in a directory that there is."""
    for name in names:
        for file in paths_of(directory, name):
            check_new_file(file, replaces=force)


def write_issued(directory: Path, name: str, issued: Issued, *, force: bool) -> tuple[Path, Path]:
    """Write a certificate, which everybody may read, and its key, which only this user may.

    Each of the two files has its name only when it is whole and durable, the key first; so a certificate with
    a name has its key. If the certificate cannot get its name, since somebody else has taken it at the last
    moment, or the machine stops between the two, the key is there alone.

    Args:
        force: whether files of these names are replaced.

    Returns the paths of certificate and key.

    Raises ConfigError, before anything is written, if a file exists and `force` does not allow to replace it,
    or the directory takes no file; and OSError if they cannot be written.
    """
    certificate, key = paths_of(directory, name)
    with ExitStack() as both:
        new_certificate = both.enter_context(new_file(certificate, replaces=force))
        new_key = both.enter_context(new_file(key, replaces=force))
        write_durably(new_certificate, issued.certificate, PUBLIC_MODE)
        write_durably(new_key, issued.key, _PRIVATE_MODE)
    return certificate, key
