"""Text from a server as a terminal may show it: what another machine sent must not drive the terminal."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """The same text, each control character replaced by `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of aligned columns, control characters replaced."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
