"""The file of the cluster's secret: what all nodes of a cluster share, and nobody else may read."""

import os
import shlex
import stat
from pathlib import Path

from raftkv_trio.config import MIN_SECRET_BYTES
from raftkv_trio.errors import ConfigError

MAX_SECRET_BYTES = 4096
_MAKE = "head -c 32 /dev/urandom | base64"
_MAKE_ONE = f"make one with `{_MAKE}`"


def read_secret(path: Path) -> bytes:
    """The secret in a file, without white space at its ends: editors add a line's end.

    Raises ConfigError if the file cannot be read, others may read or change it, or its secret is too short.
    """
    try:
        # Not to be held up by a pipe that nobody writes to.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SECRET_BYTES + 1) if stat.S_ISREG(mode) else b""
    except FileNotFoundError as error:
        quoted = shlex.quote(str(path))
        raise ConfigError(
            f"`cluster_secret` {path} does not exist; make one, the same for all nodes, with `{_MAKE}"
            f" > {quoted} && chmod 600 {quoted}`"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read `cluster_secret` {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"`cluster_secret` {path} is no regular file")
    # The group may: a container platform gives a secret to its pod's group.
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"`cluster_secret` {path} can be read or changed by other users; run `chmod o= {path}`"
        )
    secret = data.strip()
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"`cluster_secret` {path} has more than {MAX_SECRET_BYTES} bytes; {_MAKE_ONE}")
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"`cluster_secret` {path} has {len(secret)} bytes, and needs at least {MIN_SECRET_BYTES};"
            f" {_MAKE_ONE}"
        )
    return secret
