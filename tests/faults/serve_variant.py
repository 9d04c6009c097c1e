"""`raftkv-trio serve` with what no flag gives: smaller segments of the log, or a planted bug.

Run as a script: SEGMENT_BYTES BUG [ARGUMENT OF SERVE]...; BUG is one of `PLANTED`, or `none`.
"""

import importlib
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from raftkv_trio.cli import main
from raftkv_trio.config import ServerConfig
from raftkv_trio.testing.planted import PLANTED, replaced

if __name__ == "__main__":
    _, segment_bytes, bug, *arguments = sys.argv
    command = importlib.import_module("raftkv_trio.cli.serve")  # the package has a function of that name
    as_told = command.server_config

    def server_config(**flags: Any) -> ServerConfig:
        config: ServerConfig = as_told(**flags)
        return replace(config, node=replace(config.node, segment_bytes=int(segment_bytes)))

    sys.argv[1:] = ["serve", *arguments]
    with ExitStack() as changes:
        changes.enter_context(replaced(command, "server_config", server_config))
        if bug != "none":
            changes.enter_context(PLANTED[bug].plant())
        main()
