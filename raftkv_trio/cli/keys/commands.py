"""The commands that read and write keys, over gRPC: at the port of `serve --etcd-port`, or of etcd."""

import os
from typing import TYPE_CHECKING, Any

import click

from raftkv_trio.cli.keys.asking import ask_one, echo, key_command, standard_input
from raftkv_trio.cli.keys.requests import (
    del_parameters,
    del_request,
    get_parameters,
    get_request,
    put_parameters,
    put_request,
)
from raftkv_trio.cli.shared_flags import integer_from
from raftkv_trio.errors import ConfigError

if TYPE_CHECKING:
    from raftkv_trio.tls.clients import Trust


def _put(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Set KEY to VALUE.

    Without VALUE the value is read from standard input. Arguments that begin with a dash come after `--`.
    """
    if flags["value"] is None and not flags["ignore_value"]:
        flags["value"] = os.fsdecode(standard_input())
    request = put_request(**flags)

    from raftkv_trio.client.etcd.messages import PUT

    echo(ask_one(endpoints, trust, timeout, PUT, request), write_out)
    return 0


def _get(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Print KEY and its value, or those of all keys from KEY up to, but not including, RANGE_END.

    A key that does not exist prints nothing, and is no error.
    """
    value_only, count_only = flags["print_value_only"], flags["count_only"]
    if value_only and write_out != "simple":
        raise ConfigError("--print-value-only is for -w simple")
    request = get_request(**flags)

    from raftkv_trio.client.etcd.messages import RANGE

    answer = ask_one(endpoints, trust, timeout, RANGE, request)
    echo(answer, write_out, value_only=value_only, count_only=count_only)
    return 0


def _del(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Delete KEY, or all keys from KEY up to, but not including, RANGE_END; prints how many there were."""
    request = del_request(**flags)

    from raftkv_trio.client.etcd.messages import DELETE_RANGE

    echo(ask_one(endpoints, trust, timeout, DELETE_RANGE, request), write_out)
    return 0


def _txn(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Run a txn from standard input: compares, requests if all hold, requests if not.

    Each of the three parts ends with an empty line. For example:

    \b
        mod("color") > "0"
        value("color") = "red"
    \b
        put color "dark red"
        get --prefix col
    \b
        del color
    """
    from raftkv_trio.cli.keys.txn_text import parse_txn
    from raftkv_trio.client.etcd.messages import TXN

    request = parse_txn(os.fsdecode(standard_input()))
    echo(ask_one(endpoints, trust, timeout, TXN, request), write_out)
    return 0


def _compact(
    endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, revision: int
) -> int:
    """Forget all that no read at REVISION, or a later one, can see."""
    from raftkv_trio.client.etcd.messages import COMPACT
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.CompactionRequest(revision=revision)
    ask_one(endpoints, trust, timeout, COMPACT, request)
    click.echo(f"compacted revision {revision}")  # in all formats, as etcdctl has it
    return 0


put = key_command("put", put_parameters(), _put)
get = key_command("get", get_parameters(), _get)
del_ = key_command("del", del_parameters(), _del)
txn = key_command("txn", [], _txn)
compact = key_command(
    "compact", [click.Argument(["revision"], type=integer_from(0, 2**63 - 1), metavar="REVISION")], _compact
)
#: Those whose arguments are keys and values, which are any bytes, or passwords, which no error may show.
TAKE_BYTES = frozenset({"put", "get", "del", "watch", "lock", "elect", "role", "user"})
