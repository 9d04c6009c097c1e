"""The `raftkv-trio` program: commands, flags, exit codes. The only reader of argv, environment and signals.

| module | commands |
| --- | --- |
| `serve` | `serve`: one node |
| `cert` | `cert ...`: certificates for nodes and clients |
| `online` | `status`, `snapshot`, `backup`: they ask running members |
| `keys/` | `put`, `get`, `del`, `txn`, `compact`: they read and write keys |
| `auth/` | `user`, `role`, `auth`: they say who may do what |
| `bench` | `bench`: load on a running cluster |
| `member` | `member ...`: see and change the members |
| `offline` | `check`, `restore`: data directories of stopped nodes |
| `local` | `local ...`: a cluster on this machine |
| `simulate` | `simulate`: simulated clusters under faults |

The flags of a command are in its module, those of `serve` in `serve`; `shared_flags` has what several share.
`exit_codes` turns errors into exit codes and sentences, `signals` runs a component until SIGINT or SIGTERM,
and `first_signals` handles what comes before that. `commands` has them all. A command imports only the
modules that it needs, so that each of them starts fast.
"""

from typing import NoReturn

from raftkv_trio.cli.first_signals import end_at_once_on_signals


def main() -> NoReturn:
    """Run the command that argv names, and exit."""
    # Before the imports, which take a good part of a second: PID 1 of a container has no default actions, so
    # that a signal without a handler would be lost.
    end_at_once_on_signals()

    from raftkv_trio.cli.commands import run_command

    run_command()
