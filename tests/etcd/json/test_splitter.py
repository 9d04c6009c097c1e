"""Values in a row are cut at the same places however they arrive."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.etcd.json.splitter import Splitter

VALUES: list[object] = [
    *([], {}, "", [[]], [{}, 1, "a"], "\xe9 \u2028", {"a": {"b": [None, True, -1.5e3]}}),
    *('"', "\\", '\\"', "{[", "]}", '{"a":"}"}', ["]", '"]', "\\"], {"}": '"{', '\\"': "\\\\"}),
]


def split(content: bytes, random: Random) -> list[bytes]:
    """The values of content that arrives in parts of random sizes."""
    splitter = Splitter()
    values: list[bytes] = []
    while content or not values:
        size = random.choice([1, 1, 2, 10, 1000])
        splitter.feed(content[:size])
        content = content[size:]
        if not content:
            splitter.end()
        while (value := splitter.next_value()) is not None:
            values.append(value)
        if not content:
            break
    assert splitter.held_bytes == 0
    return values


@pytest.mark.parametrize("seed", range(100))
def test_objects_lists_and_strings_need_no_space_between_them(seed: int) -> None:
    """And spaces there, or inside, change nothing."""
    random = Random(seed)
    texts = [
        json.dumps(random.choice(VALUES), ensure_ascii=random.random() < 0.5, indent=random.choice([None, 1]))
        for _ in range(random.randrange(6))
    ]
    content = "".join(text + random.choice(["", " ", "\n\r\t "]) for text in texts)
    assert [value.decode() for value in split(content.encode(), random)] == texts


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", []),
        (b" \n", []),
        (b"null 1 true", [b"null", b"1", b"true"]),
        (b'null{"a":1}2[]', [b"null", b'{"a":1}', b"2", b"[]"]),
        (b"}{}", [b"}", b"{}"]),
        (b",:", [b",", b":"]),
        (b'{"a":"}', [b'{"a":"}']),
        (b'"\\', [b'"\\']),
        (b"{[}", [b"{[}"]),
        (b"\xff{}", [b"\xff", b"{}"]),
    ],
)
def test_other_content(content: bytes, values: list[bytes]) -> None:
    """What is not well formed becomes values too; who decodes them refuses them."""
    for seed in range(10):
        assert split(content, Random(seed)) == values


@given(st.binary(), st.integers())
def test_nothing_is_lost(content: bytes, seed: int) -> None:
    """Any bytes come out again, but for the spaces between values."""
    assert b"".join(split(content, Random(seed))).translate(None, b" \t\n\r") == content.translate(
        None, b" \t\n\r"
    )
