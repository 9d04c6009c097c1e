"""The file of the cluster's secret: what all nodes of a cluster share, and nobody else may read."""

import shlex
from pathlib import Path

from raftkv_trio.config import MIN_SECRET_BYTES
from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import read_user_file

MAX_SECRET_BYTES = 4096
_MAKE = "head -c 32 /dev/urandom | base64"


def read_secret(path: Path) -> bytes:
    """The secret in a file, without white space at its ends: editors add a line's end.

    Raises ConfigError if the file cannot be read, others may read or change it, or its secret is too short.
    """
    try:
        data = read_user_file(
            path, max_bytes=MAX_SECRET_BYTES, is_private=True, called=f"`cluster_secret` {path}"
        )
    except FileNotFoundError as error:
        quoted = shlex.quote(str(path))
        raise ConfigError(
            f"`cluster_secret` {path} does not exist; make one, the same for all nodes, with `{_MAKE}"
            f" > {quoted} && chmod 600 {quoted}`"
        ) from error
    secret = data.strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"`cluster_secret` {path} has {len(secret)} bytes, and needs at least {MIN_SECRET_BYTES};"
            f" make one with `{_MAKE}`"
        )
    return secret
