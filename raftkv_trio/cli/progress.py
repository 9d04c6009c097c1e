"""Progress bars of commands that take long, on a terminal only: a file or pipe has none."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import click

from raftkv_trio.storage import Disk, OsDisk

_REDRAW_S = 0.1


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


@asynccontextmanager
async def bar_that_follows(
    label: str, length: int, progress: Callable[[], tuple[int, str]]
) -> AsyncIterator[None]:
    """Show how far something has come while the block is under way.

    Args:
        length: how far it goes.
        progress: how far it has come, and a few words to stand behind the bar.
    """
    import trio

    if not is_terminal():
        yield
        return
    with click.progressbar(length=length, label=label, file=sys.stderr, item_show_func=_shown) as bar:

        def draw() -> None:
            done, words = progress()
            bar.update(max(0, min(done, length) - bar.pos), words)

        async def redraw() -> None:
            while True:
                draw()
                await trio.sleep(_REDRAW_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(redraw)
            yield
            nursery.cancel_scope.cancel()
        draw()


def _shown(words: str | None) -> str:
    return words or ""
