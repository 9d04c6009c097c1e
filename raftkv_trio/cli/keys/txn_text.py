r"""The text of a txn, as etcdctl reads it from standard input.

Three parts, each of which ends with an empty line or with the text: compares, the requests if all compares
hold, and the requests if not:

    mod("color") > "0"
    value("color") = "red"

    put color "dark red"
    get --prefix col

    del "a key with spaces"

A compare is `TARGET("KEY") OPERATOR "VALUE"`: the target `value` (`val`), `version` (`ver`), `create` (`c`),
`mod` (`m`) or `lease`; the operator `=`, `!=`, `<` or `>`. A request is a line of arguments, with the flags
of the commands `put`, `get` and `del`. An argument in double quotes may have Go's escapes, such as `\n`,
`\"`, `\x00` and `\u00e9`; one in single quotes has none.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import click

from raftkv_trio.cli.keys.requests import (
    del_parameters,
    del_request,
    get_parameters,
    get_request,
    put_parameters,
    put_request,
)
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable
from raftkv_trio.schema import rpc_pb2

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_COMPARE = re.compile(rf"\s*(\w+)\s*\(\s*{_QUOTED}\s*\)\s*(=|!=|<|>)\s*{_QUOTED}\s*")
_ARGUMENT = re.compile(rf"{_QUOTED}|'([^']*)'|([^\s\"']\S*)")
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.)|$)", re.DOTALL
)
_SIMPLE_ESCAPES = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))
_OPERATORS = {
    "=": rpc_pb2.Compare.EQUAL,
    "!=": rpc_pb2.Compare.NOT_EQUAL,
    "<": rpc_pb2.Compare.LESS,
    ">": rpc_pb2.Compare.GREATER,
}
_NUMBERS = {
    "version": (rpc_pb2.Compare.VERSION, "version"),
    "ver": (rpc_pb2.Compare.VERSION, "version"),
    "create": (rpc_pb2.Compare.CREATE, "create_revision"),
    "c": (rpc_pb2.Compare.CREATE, "create_revision"),
    "mod": (rpc_pb2.Compare.MOD, "mod_revision"),
    "m": (rpc_pb2.Compare.MOD, "mod_revision"),
    "lease": (rpc_pb2.Compare.LEASE, "lease"),
}


def parse_txn(text: str) -> rpc_pb2.TxnRequest:
    """The txn that a text describes; bytes that are not UTF-8 are in it as `os.fsdecode` has them.

    Raises ConfigError, which names the line.
    """
    lines = iter(enumerate(text.split("\n"), start=1))
    request = rpc_pb2.TxnRequest()
    for number, line in _part(lines):
        request.compare.append(_compare(line, number))
    for number, line in _part(lines):
        request.success.append(_operation(line, number))
    for number, line in _part(lines):
        request.failure.append(_operation(line, number))
    for number, line in lines:
        if line.strip():
            raise ConfigError(f"line {number} of the txn is behind its three parts; remove it")
    return request


def _part(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if not line.strip():
            return
        yield number, line.strip()


def _compare(line: str, number: int) -> rpc_pb2.Compare:
    parts = _COMPARE.fullmatch(line)
    if parts is None:
        raise _fault(number, line, 'is no compare; write one such as mod("key") > "0"')
    target, key, operator, operand = parts[1], parts[2], parts[3], unquoted(parts[4], number)
    compare = rpc_pb2.Compare(key=os.fsencode(unquoted(key, number)), result=_OPERATORS[operator])
    if target in ("value", "val"):
        compare.target, compare.value = rpc_pb2.Compare.VALUE, os.fsencode(operand)
        return compare
    if target not in _NUMBERS:
        known = "value, version, create, mod or lease"
        raise _fault(number, line, f"compares an unknown part of a key; compare its {known}")
    # Leases are shown, and given to `put`, in hexadecimal.
    number_form, base = (r"[0-9a-fA-F]{1,16}", 16) if target == "lease" else (r"[+-]?[0-9]{1,20}", 10)
    value = int(operand, base) if re.fullmatch(number_form, operand) else 2**63
    if not -(2**63) <= value < 2**63:
        raise _fault(number, line, f"compares with {printable(operand)}, which is no number of 64 bits")
    compare.target, field = _NUMBERS[target]
    setattr(compare, field, value)
    return compare


def _operation(line: str, number: int) -> rpc_pb2.RequestOp:
    name, *words = arguments_of(line, number)
    try:
        match name:
            case "put":
                request = put_request(**_flags(name, put_parameters(), words, number))
                return rpc_pb2.RequestOp(request_put=request)
            case "get":
                request_range = get_request(**_flags(name, get_parameters(), words, number))
                return rpc_pb2.RequestOp(request_range=request_range)
            case "del":
                request_delete = del_request(**_flags(name, del_parameters(), words, number))
                return rpc_pb2.RequestOp(request_delete_range=request_delete)
    except ConfigError as error:
        raise ConfigError(f"line {number} of the txn: {error}") from error
    raise _fault(number, line, "is no request; a txn has put, get and del")


def _flags(name: str, parameters: list[click.Parameter], words: list[str], number: int) -> dict[str, Any]:
    try:
        flags = click.Command(name, params=parameters, add_help_option=False).make_context(name, words).params
    except click.UsageError as error:
        raise ConfigError(" ".join(error.format_message().split())) from error
    if name == "put" and flags["value"] is None and not flags["ignore_value"]:
        raise ConfigError("Missing argument 'VALUE'.")
    return flags


def arguments_of(line: str, number: int) -> list[str]:
    """The words of a line. Raises ConfigError if a quote is open, or an escape unknown."""
    arguments, position = [], 0
    while position < len(line):
        found = _ARGUMENT.match(line, position)
        if found is None:
            raise _fault(number, line, "has a quote without its other one")
        in_double, in_single, bare = found.groups()
        if in_double is not None:
            arguments.append(unquoted(in_double, number))
        else:
            arguments.append(bare if in_single is None else in_single)
        position = found.end()
        while position < len(line) and line[position].isspace():
            position += 1
    return arguments


def unquoted(text: str, number: int = 1) -> str:
    """What stands between two double quotes, without Go's escapes. Raises ConfigError for others."""

    def plain(found: re.Match[str]) -> str:
        of_byte, of_octal, short, long, simple = found.groups()
        if of_byte or of_octal:
            value = int(of_byte, 16) if of_byte else int(of_octal, 8)
            if value < 256:
                return chr(value) if value < 128 else chr(0xDC00 + value)  # as os.fsdecode has a byte
        elif short or long:
            value = int(short or long, 16)
            if value < 0x110000 and not 0xD800 <= value < 0xE000:
                return chr(value)
        elif simple in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[simple]
        raise ConfigError(f"line {number} of the txn has the unknown escape {printable(found[0])}")

    return _ESCAPE.sub(plain, text)


def _fault(number: int, line: str, what: str) -> ConfigError:
    return ConfigError(f"line {number} of the txn, '{printable(line)}', {what}")
