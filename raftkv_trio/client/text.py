"""Tables for a terminal, of text that another machine sent: it must not drive the terminal."""

from collections.abc import Sequence

from raftkv_trio.foreign_text import printable


def counted(number: int, noun: str) -> str:
    """Such as `1 client` and `2 clients`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of aligned columns, each cell made printable."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
