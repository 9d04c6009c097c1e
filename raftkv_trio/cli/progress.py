"""Progress bars of commands that read for long, on a terminal only: a file or pipe has none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from raftkv_trio.storage import Disk, OsDisk


def is_terminal() -> bool:
    """Whether standard error, where the bars are, is open and a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def disk_with_progress(label: str, length_bytes: int) -> Iterator[Disk]:
    """The disk; what is read from it, about `length_bytes` in all, moves a bar on standard error."""
    if not is_terminal():
        yield OsDisk()
        return
    with click.progressbar(length=length_bytes, label=label, file=sys.stderr) as bar:
        yield OsDisk(bar.update)
        bar.update(max(length_bytes - bar.pos, 0))
