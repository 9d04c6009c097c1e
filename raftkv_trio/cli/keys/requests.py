"""The flags of put, get and del, and the requests that they mean; alike on the command line and in a txn.

- None of these flags has a variable: a forgotten one would change other keys than those on the command line.
- The argument KEY has the name `start` here: `key` is that of the flag for the private key of a client.
"""

import os
from typing import Any

import click

from raftkv_trio.cli.shared_flags import integer_from
from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import TO_THE_LAST, prefix_end
from raftkv_trio.schema import rpc_pb2

_MAX_INT = 2**63 - 1
_ORDERS = {"ASCEND": rpc_pb2.RangeRequest.ASCEND, "DESCEND": rpc_pb2.RangeRequest.DESCEND}
_TARGETS = {
    "CREATE": rpc_pb2.RangeRequest.CREATE,
    "KEY": rpc_pb2.RangeRequest.KEY,
    "MODIFY": rpc_pb2.RangeRequest.MOD,
    "VALUE": rpc_pb2.RangeRequest.VALUE,
    "VERSION": rpc_pb2.RangeRequest.VERSION,
}


def _flag(name: str, help: str) -> click.Option:
    return click.Option([name], is_flag=True, allow_from_autoenv=False, help=help)


def _value(name: str, help: str, **settings: Any) -> click.Option:
    return click.Option([name], allow_from_autoenv=False, help=help, **settings)


def _choice(name: str, values: Any, help: str, **settings: Any) -> click.Option:
    return _value(name, help, type=click.Choice(list(values), case_sensitive=False), **settings)


def _argument(metavar: str, name: str, *, required: bool = True) -> click.Argument:
    return click.Argument([name], metavar=metavar, required=required)


def put_parameters() -> list[click.Parameter]:
    """The arguments and flags of a put."""
    return [
        _argument("KEY", "start"),
        _argument("[VALUE]", "value", required=False),
        _value("--lease", "Lease of the key, in hexadecimal; 0 is none.", default="0", metavar="ID"),
        _flag("--prev-kv", "Show what the put replaces."),
        _flag("--ignore-value", "Keep the value that the key has."),
        _flag("--ignore-lease", "Keep the lease that the key has."),
    ]


def get_parameters() -> list[click.Parameter]:
    """The arguments and flags of a get."""
    number = integer_from(0, _MAX_INT)
    return [
        _argument("KEY", "start"),
        _argument("[RANGE_END]", "range_end", required=False),
        _flag("--prefix", "Get all keys that begin with KEY."),
        _flag("--from-key", "Get all keys from KEY on."),
        _value("--rev", "Read this revision; 0: the newest.", type=number, default=0, metavar="REVISION"),
        _value("--limit", "Most keys to get; 0: no limit.", type=number, default=0, metavar="NUMBER"),
        _choice("--sort-by", _TARGETS, "Sort by this."),
        _choice("--order", _ORDERS, "Sort in this order."),
        _flag("--keys-only", "Get no values."),
        _flag("--count-only", "Get how many keys there are, and no key."),
        _flag("--print-value-only", "Print values alone (with `-w simple`)."),
        _choice(
            "--consistency",
            ["l", "s"],
            "l: linearizable; s: what the member at the endpoint has, perhaps old.",
            default="l",
            show_default=True,
        ),
    ]


def del_parameters() -> list[click.Parameter]:
    """The arguments and flags of a del."""
    return [
        _argument("KEY", "start"),
        _argument("[RANGE_END]", "range_end", required=False),
        _flag("--prefix", "Delete all keys that begin with KEY."),
        _flag("--from-key", "Delete all keys from KEY on."),
        _flag("--prev-kv", "Show what is deleted."),
    ]


def watch_parameters() -> list[click.Parameter]:
    """The arguments and flags of a watch."""
    return [
        _argument("[KEY]", "start", required=False),
        _argument("[RANGE_END]", "range_end", required=False),
        _flag("--prefix", "Watch all keys that begin with KEY."),
        _value(
            "--rev",
            "Begin at this revision; 0: from now on.",
            type=integer_from(0, _MAX_INT),
            default=0,
            metavar="REVISION",
        ),
        _flag("--prev-kv", "Show what an event replaces."),
    ]


def put_request(
    start: str, value: str | None, lease: str, prev_kv: bool, ignore_value: bool, ignore_lease: bool
) -> rpc_pb2.PutRequest:
    """The request of a put. Raises ConfigError if its flags do not fit together."""
    if ignore_value and value is not None:
        raise ConfigError("--ignore-value keeps the value of the key; leave VALUE out")
    try:
        lease_id = int(lease, 16)
    except ValueError:
        lease_id = -1
    if not 0 <= lease_id <= _MAX_INT:
        raise ConfigError("--lease is not a hexadecimal number below 8000000000000000")
    return rpc_pb2.PutRequest(
        key=os.fsencode(start),
        value=b"" if value is None else os.fsencode(value),
        lease=lease_id,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )


def get_request(
    start: str,
    range_end: str | None,
    prefix: bool,
    from_key: bool,
    rev: int,
    limit: int,
    sort_by: str | None,
    order: str | None,
    keys_only: bool,
    count_only: bool,
    print_value_only: bool,
    consistency: str,
) -> rpc_pb2.RangeRequest:
    """The request of a get. Raises ConfigError if its flags do not fit together."""
    key, end = _range(start, range_end, prefix, from_key)
    target = _TARGETS[sort_by] if sort_by else rpc_pb2.RangeRequest.KEY
    direction = _ORDERS[order] if order else rpc_pb2.RangeRequest.NONE
    if target == rpc_pb2.RangeRequest.KEY and direction == rpc_pb2.RangeRequest.ASCEND:
        direction = rpc_pb2.RangeRequest.NONE  # in which the keys come anyway, and with a limit faster
    return rpc_pb2.RangeRequest(
        key=key,
        range_end=end,
        revision=rev,
        limit=limit,
        sort_target=target,
        sort_order=direction,
        keys_only=keys_only,
        count_only=count_only,
        serializable=consistency == "s",
    )


def del_request(
    start: str, range_end: str | None, prefix: bool, from_key: bool, prev_kv: bool
) -> rpc_pb2.DeleteRangeRequest:
    """The request of a del. Raises ConfigError if its flags do not fit together."""
    key, end = _range(start, range_end, prefix, from_key)
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev_kv)


def watch_request(
    start: str | None, range_end: str | None, prefix: bool, rev: int, prev_kv: bool
) -> rpc_pb2.WatchCreateRequest:
    """The request of a watch. Raises ConfigError if its flags do not fit together."""
    if start is None:
        raise ConfigError("a watch needs a KEY")
    key, end = _range(start, range_end, prefix, False)
    return rpc_pb2.WatchCreateRequest(key=key, range_end=end, start_revision=rev, prev_kv=prev_kv)


def _range(key: str, range_end: str | None, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    if prefix and from_key:
        raise ConfigError("--prefix and --from-key exclude each other; choose one")
    if (prefix or from_key) and range_end is not None:
        raise ConfigError("--prefix and --from-key end the range by themselves; leave RANGE_END out")
    start = os.fsencode(key)
    if not (prefix or from_key):
        return start, b"" if range_end is None else os.fsencode(range_end)
    if not start:
        return TO_THE_LAST, TO_THE_LAST  # all keys: that zero byte is the least key, too
    return start, prefix_end(start) if prefix else TO_THE_LAST
