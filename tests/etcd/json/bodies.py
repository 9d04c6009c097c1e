"""Bodies that clients send by mistake or malice: good ones, changed by chance; a seed gives the same one."""

import json
from itertools import pairwise
from random import Random
from typing import Any

RANGE = "/v3/kv/range"
TXN = "/v3/kv/txn"
TIME_TO_LIVE = "/v3/lease/timetolive"
REMOVE = "/v3/cluster/member/remove"

#: Requests that change nothing, so that asking twice gives the same answer.
GOOD: list[tuple[str, Any]] = [
    (
        RANGE,
        {"key": "YQ==", "range_end": "eg==", "limit": "3", "sort_order": "DESCEND", "sort_target": "MOD"},
    ),
    (RANGE, {"key": "YWI=", "rangeEnd": "AA==", "keysOnly": True, "revision": 0, "minModRevision": "1"}),
    (
        RANGE,
        {"key": "YQ==", "serializable": False, "count_only": True, "sort_order": 1, "unknown": {"a": [1.5]}},
    ),
    (
        TXN,
        {
            "compare": [
                {"key": "YQ==", "target": "VALUE", "value": "YQ==", "result": "EQUAL"},
                {"key": "Yg==", "target": "MOD", "modRevision": "1", "result": 1, "range_end": "eg=="},
            ],
            "success": [{"requestRange": {"key": "YQ=="}}, {"request_range": {"key": "Yg==", "limit": 1}}],
            "failure": [{"request_txn": {"failure": [], "success": [{"requestRange": {"key": "YQ=="}}]}}],
        },
    ),
    (TIME_TO_LIVE, {"ID": "4711", "keys": True}),
    (REMOVE, {"ID": 12345}),
]
ODD_VALUES: list[bytes] = [
    *(
        b"null",
        b"true",
        b"false",
        b"0",
        b"-0",
        b"1",
        b"-1",
        b"1.0",
        b"1e0",
        b"1E+2",
        b"01",
        b"+1",
        b".5",
        b"1.",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[]",
        b"{}",
        b"[null]",
        b"[1]",
        b"[1,2]",
        b"[[]]",
        b"[{}]",
        b'{"a":1}',
    ),
    *(b"127", b"255", b"256", b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967296"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809"),
    *(b"18446744073709551615", b"18446744073709551616", b"1" * 5000, b'"' + b"1" * 5000 + b'"'),
    *(
        b'""',
        b'" "',
        b'"1"',
        b'" 1"',
        b'"1 "',
        b'"-1"',
        b'"-0"',
        b'"+1"',
        b'"01"',
        b'"1.0"',
        b'"1e0"',
        b'"1_0"',
    ),
    *(b'"0x1"', b'"null"', b'" null "', b'"true"', b'"[]"', b'"{}"', b'"\\u0031"', b'"1\\n"', b'"\\t1"'),
    *(b'"\xd9\xa1"', b'"9223372036854775807"', b'"9223372036854775808"', b'"-9223372036854775809"'),
    *(
        b'"YQ=="',
        b'"YQ"',
        b'"YQ="',
        b'"YR=="',
        b'"YWI="',
        b'"YWJj"',
        b'"Y-_="',
        b'"Y+/="',
        b'"YQ==YQ=="',
        b'"Y"',
    ),
    *(
        b'"===="',
        b'"Y==="',
        b'"=YQ="',
        b'"YQ=A"',
        b'"YQ==="',
        b'"Y Q=="',
        b'" YQ=="',
        b'"YQ==\\n"',
        b'"Y\\r\\nQ=="',
    ),
    *(
        b'"\\nYQ=="',
        b'"YQ=\\u003d"',
        b'"YQ\\/="',
        b'"YWJj\\/\\/=="',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff\xfe"',
    ),
    *(
        b'"\\ud83d\\ude00"',
        b'"\xed\xa0\x80"',
        b'"\xc3\xa9"',
        b'"\x7f"',
        b'"\x00"',
        b'"\x1f"',
        b'"\n"',
        b'"\\x"',
    ),
    *(
        b'"EQUAL"',
        b'"equal"',
        b'"\\u0045QUAL"',
        b'"ASCEND"',
        b'"VALUE"',
        b'"NONE"',
        b'"3"',
        b'"7"',
        b"7",
        b"3",
    ),
    *(b"nul", b"nullx", b"truex", b"'a'", b'"', b"[1,]", b'{"a":1,}', b'{"a"}', b"{1:2}", b"//", b"/**/1"),
    *(b"[" * 200 + b"]" * 200, b'{"a":' * 90 + b"1" + b"}" * 90),
]
BYTES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\x00",
    b"\xff",
    b"=",
    b"0",
    b"-",
    b"a",
    b"\\u",
]


def body(random: Random) -> tuple[str, bytes]:
    """A path, and a body for it that is probably malformed."""
    path, value = random.choice(GOOD)
    content = json.dumps(value, separators=random.choice([(",", ":"), (", ", ": ")])).encode()
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        content = random.choice([_odd_value, _odd_value, _odd_name, _cut, _inserted, _repeated, _around])(
            random, content
        )
    return path, content


def _tokens(content: bytes) -> list[tuple[int, int]]:
    """Where values and names are, roughly: what is between the punctuation."""
    edges = [-1, *(at for at, byte in enumerate(content) if byte in b"{}[],:"), len(content)]
    return [(a + 1, b) for a, b in pairwise(edges) if b > a + 1] or [(0, len(content))]


def _odd_value(random: Random, content: bytes) -> bytes:
    start, end = random.choice(_tokens(content))
    return content[:start] + random.choice(ODD_VALUES) + content[end:]


def _odd_name(random: Random, content: bytes) -> bytes:
    """A second member, which may have the name of the first."""
    start, end = random.choice(_tokens(content))
    at = content.find(b"{")
    member = content[start:end] + b":" + random.choice(ODD_VALUES) + b","
    return content[: at + 1] + member + content[at + 1 :]


def _cut(random: Random, content: bytes) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + content[start + random.choice([1, 1, 2, 5, len(content)]) :]


def _inserted(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.choice(BYTES) + content[at:]


def _repeated(random: Random, content: bytes) -> bytes:
    start = random.randrange(len(content) + 1)
    end = min(len(content), start + random.randrange(1, 20))
    return content[:end] + content[start:end] + content[end:]


def _around(random: Random, content: bytes) -> bytes:
    before = random.choice([b"", b" ", b"\n\t\r ", b"\xef\xbb\xbf", b"[", b"\x00", b"\x0b", b"null", b"x"])
    return before + content + random.choice([b"", b"x", b"}", b"{}", b"\x00", b" ", b"\xff"])
