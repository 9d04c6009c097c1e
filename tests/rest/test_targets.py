"""The request target as sent is the key: nothing is decoded, merged, cut off or normalised."""

import pytest

from raftkv_trio.http.messages import origin_form
from tests.rest.serving import Served

NOT_A_TARGET = (
    b"The request target must be a path or an absolute URL with http, in visible ASCII characters\n"
)
ALIKE = [
    b"/",
    b"//",
    b"///a",
    b"/a",
    b"/a/",
    b"/a//b",
    b"/a/b",
    b"/a/./b",
    b"/a/../b",
    b"/..",
    b"/a?",
    b"/a?b",
    b"/a?b=c&d",
    b"/a?b?c",
    b"/?a",
    b"/a;b=c",
    b"/a#b",
    b"/%61",
    b"/a%2Fb",
    b"/a%2fb",
    b"/%2D/status",
    b"/%",
    b"/%zz",
    b"/%00",
    b"/%C3%A9",
    b"/a%20b",
    b"/a+b",
    b'/"<>\\^`{|}',
    b"/-",
    b"/-?a",
    b"/http://other/a",
    b"/" + b"k" * 8191,
]


async def test_each_target_is_a_key_of_its_own(served: Served) -> None:
    """Targets that are alike are different keys; each reads what was put under it and is stored as sent."""
    async with served.connect() as wire:
        for target in ALIKE:
            put = await wire.ask(b"PUT " + target, b"Content-Length: %d" % len(target), content=target)
            assert put.status == 204, target
        for target in ALIKE:
            got = await wire.ask(b"GET " + target)
            assert (got.status, got.content) == (200, target)
    assert [record.key for record in served.store.range(b"")] == sorted(ALIKE)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (b"http://host/a?b", b"/a?b"),
        (b"http://host:12380/a", b"/a"),
        (b"HTTPS://[::1]:80//a", b"//a"),
        (b"http://host", b"/"),
        (b"http://host?a", b"/?a"),
        (b"http://host/-/status", b"/-/status"),
        (b"/http://host/a", b"/http://host/a"),
        (b"*", None),
        (b"host:80", None),
        (b"ftp://host/a", None),
        (b"http:///a", None),
        (b"a", None),
        (b"?a", None),
    ],
)
def test_origin_form(target: bytes, key: bytes | None) -> None:
    """An absolute form is the key behind its authority (RFC 9112, section 3.2.2); other forms are none."""
    assert origin_form(target) == key


async def test_absolute_form(served: Served) -> None:
    """A request as to a proxy is answered as one in origin form, for keys and for operators."""
    put = await served.ask(b"PUT http://other:1/a?b", b"Content-Length: 1", content=b"v")
    assert put.status == 204
    assert (await served.ask(b"GET /a?b")).content == b"v"
    assert (await served.ask(b"GET http://other/-/healthy")).content == b"healthy\n"


@pytest.mark.parametrize("target", [b"*", b"key", b"host:80", b"ftp://host/key", b"?key"])
async def test_what_is_no_key(served: Served, target: bytes) -> None:
    """Targets of another form are refused with a sentence, and nothing is written."""
    answer = await served.ask(b"PUT " + target, b"Content-Length: 1", content=b"v")
    assert answer.status == 400
    assert answer.content == NOT_A_TARGET
    assert len(served.store) == 0


@pytest.mark.parametrize("target", [b"/\xc3\xa9", b"/\x80", b"/\xff", b"/a\x00b", b"/a\x7f", b"/\x1b[m"])
async def test_bytes_that_no_target_has(served: Served, target: bytes) -> None:
    """Bytes outside visible ASCII are refused by themselves, and the server goes on to the next client."""
    async with served.connect() as wire:
        answer = await wire.ask(b"PUT " + target, b"Content-Length: 1", content=b"v")
        assert (answer.status, answer.content) == (
            400,
            NOT_A_TARGET,
        )
        assert await wire.rest() == b""
    assert len(served.store) == 0
    assert (await served.ask(b"GET /a")).status == 404


async def test_a_key_that_is_too_long(served: Served) -> None:
    """A key over 8 KiB is 414; a head over what is read at all is 431; both say so."""
    key = b"/" + b"k" * 8192
    assert (await served.ask(b"PUT " + key, b"Content-Length: 0")).status == 414
    assert (await served.ask(b"PUT /" + b"k" * 200_000, b"Content-Length: 0")).status == 431
    assert len(served.store) == 0
