"""The commands on data directories of stopped nodes; `cli.py` has the others."""

from pathlib import Path

import click

_SOUND, _WRONG = 0, 1


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@click.option(
    "-w", "--write-out", type=click.Choice(["text", "json"]), default="text", help="Form of the output."
)
def check(directory: Path, repair: bool, write_out: str) -> int:
    """Say what a stopped node's data directory holds, and what is wrong with it.

    The exit code is 0 where nothing is wrong, 1 where something is. Without --repair nothing is written; with
    it a torn tail is cut off, and kept, what a crash left unfinished goes, and damaged files that no start
    needs are moved to DIR/aside.
    """
    from raftkv_trio.inspect_directory import as_json, as_text, inspect_directory

    inspection = inspect_directory(directory, repairs=repair)
    click.echo(as_json(inspection) if write_out == "json" else as_text(inspection))
    return _SOUND if inspection.is_sound else _WRONG
