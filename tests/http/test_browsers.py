"""What browsers may be made to send: which heads of requests are refused, and which are not."""

from http import HTTPStatus

import pytest

from raftkv_trio.http import KnownHosts, lacks_json_type, may_be_of_another_site, refusal_of

CHANGES = ("PUT", "POST", "DELETE", "PATCH")
HOSTS = KnownHosts(("kv.example", "Advertised"), lambda: ["member-1", "10.0.0.1"])
JSON = "application/json"


def fields(**given: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]


def status(method: str, **given: str) -> HTTPStatus | None:
    refusal = refusal_of(method, fields(**given), HOSTS)
    assert refusal is None or refusal.sentence
    return refusal and refusal.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:9121",
        "localhost.:80",
        "127.0.0.1",
        "127.0.0.1:9121",
        "[::1]",
        "[fe80::1%25eth0]:80",
        "kv.example",
        "KV.example:1",
        "advertised",
        "member-1:9121",
        "",
    ],
)
def test_known_hosts(host: str) -> None:
    """IP addresses, localhost, names of the configuration and of members, with any port, in any case."""
    for method in ("GET", *CHANGES):
        assert status(method, host=host) is None
    assert status("GET") is None  # HTTP/1.0, which no browser speaks


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9121",
        "localhost.evil.example",
        "kv.example.evil",
        "x.kv.example",
        "127.0.0.1.evil.example",
        "1",
        "127.1",
        "[evil.example]",
        "kv.example:80:80",
        "kv.example@evil",
        "\xe9",
        "member-2",
    ],
)
def test_unknown_hosts(host: str) -> None:
    """Any other name is refused, for reads too: DNS rebinding makes such a page's origin that of the node."""
    for method in ("GET", "HEAD", "OPTIONS", *CHANGES):
        assert status(method, host=host) == 421
    assert refusal_of("PUT", fields(host=host), KnownHosts(["*"], list)) is None


@pytest.mark.parametrize("host", ["kv.example", "kv.example.:1", "node.example:1", "Node.Example.:1"])
def test_a_name_may_end_with_a_dot(host: str) -> None:
    """In the configuration and among the members, as in Kubernetes, and in the request."""
    hosts = KnownHosts(["KV.example."], lambda: ["node.example."])
    assert refusal_of("GET", fields(host=host), hosts) is None


@pytest.mark.parametrize("given", ["B\xfccher.example", "xn--bcher-KVA.example", "b\xfccher\u3002example."])
@pytest.mark.parametrize("asked", ["xn--bcher-kva.example:1", "XN--bcher-kva.example.", "B\xdcCHER.example"])
def test_a_name_of_other_letters(given: str, asked: str) -> None:
    """It is one name in A-labels, which browsers send, and as it is written, whatever the case."""
    host = [(b"host", asked.encode())]
    for hosts in KnownHosts([given], list), KnownHosts((), lambda: [given]):
        assert refusal_of("GET", host, hosts) is None
    assert refusal_of("GET", host, KnownHosts(["bucher.example"], lambda: ["xn--other.example"]))


def test_names_of_other_letters_that_are_not_the_same() -> None:
    """An older standard has `ss` for the sharp s: that would be the name of somebody else."""
    hosts = KnownHosts(["fa\xdf.example"], list)
    assert refusal_of("GET", fields(host="xn--fa-hia.example"), hosts) is None
    assert refusal_of("GET", fields(host="fass.example"), hosts)


def test_members_are_those_of_the_moment() -> None:
    """A member that is added is known at once, and one that was removed is not any more."""
    members = ["one"]
    hosts = KnownHosts((), lambda: members)
    assert refusal_of("GET", fields(host="two:1"), hosts)
    members[:] = ["two"]
    assert refusal_of("GET", fields(host="two:1"), hosts) is None
    assert refusal_of("GET", fields(host="one:1"), hosts)


@pytest.mark.parametrize(
    ("host", "origin", "is_refused"),
    [
        ("kv.example", "http://kv.example", False),
        ("KV.example", "http://kv.example:80", False),
        ("kv.example:443", "https://kv.example", False),  # behind a proxy that speaks TLS
        ("kv.example:9121", "http://kv.example:9121", False),
        ("[::1]:9121", "http://[::1]:9121", False),
        ("kv.example:9121", "http://kv.example", True),
        ("kv.example", "http://kv.example:443", True),
        ("127.0.0.1:9121", "http://127.0.0.1:9122", True),
        ("127.0.0.1:9121", "http://localhost:9121", True),
        ("kv.example", "http://evil.example", True),
        ("kv.example", "http://kv.example.evil.example", True),
        ("kv.example", "null", True),
        ("kv.example", "", True),
        ("", "null", True),
        ("kv.example", "kv.example", True),
        ("", "http://", True),
    ],
)
def test_origins(host: str, origin: str, is_refused: bool) -> None:
    """A change is refused if the page's host and port are not those that it asks; a read is not."""
    for method in CHANGES:
        assert status(method, host=host, origin=origin) == (403 if is_refused else None)
    for method in ("GET", "HEAD", "OPTIONS"):
        assert status(method, host=host, origin=origin) is None


@pytest.mark.parametrize(
    ("origin", "is_refused"),
    [
        ("https://kv.example", False),
        ("https://KV.example.:8443", False),
        ("https://10.1.2.3", False),
        ("http://localhost:8080", False),
        ("https://evil.example", True),  # leads to the proxy, by DNS rebinding
        ("https://kv.example.evil.example", True),
        ("null", True),
        ("", True),
        ("https://", True),
        ("kv.example", True),
    ],
)
def test_a_proxy_that_replaces_the_host(origin: str, is_refused: bool) -> None:
    """A page of the proxy's own origin may change keys if the browser says so, and its name is known here."""
    behind = {"host": "10.0.0.1:9121", "origin": origin}
    for method in CHANGES:
        assert status(method, **behind, sec_fetch_site="same-origin") == (403 if is_refused else None)
        for site in ("none", "same-site", "cross-site"):
            assert status(method, **behind, sec_fetch_site=site) == 403
        assert status(method, **behind) == 403  # an old browser, or plain HTTP: it does not say so


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"user_agent": "curl/7.88.1"}, False),
        ({"user_agent": "Mozilla/5.0 (X11)", "sec_fetch_site": "same-origin"}, False),
        ({"user_agent": "Mozilla/5.0 (X11)", "sec_fetch_site": "none"}, False),
        ({"user_agent": "Mozilla/5.0 (X11)", "sec_fetch_site": "same-site"}, True),
        ({"user_agent": "Mozilla/5.0 (X11)", "sec_fetch_site": "cross-site"}, True),
        ({"user_agent": "Mozilla/5.0 (X11)"}, True),
        ({"user_agent": "Mozilla/5.0 (X11)", "sec_fetch_site": "same-origin", "origin": "http://a"}, False),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_what_a_page_of_another_site_may_have_sent(given: dict[str, str], expected: bool) -> None:
    """All that a browser has sent which does not say that it was no such page; programs are no browsers."""
    assert may_be_of_another_site(fields(**given)) is expected


@pytest.mark.parametrize(
    ("site", "is_refused"),
    [("same-origin", False), ("none", False), ("same-site", True), ("cross-site", True), ("new", True)],
)
def test_fetch_metadata(site: str, is_refused: bool) -> None:
    """What the browser says of the page counts, also if it sends no origin."""
    for method in CHANGES:
        assert status(method, host="localhost", sec_fetch_site=site) == (403 if is_refused else None)
    assert status("GET", host="localhost", sec_fetch_site=site) is None


def test_the_type_of_changes() -> None:
    """What a page can send elsewhere without a preflight lacks the type: a form, a text, an empty POST."""
    for method in ("PUT", "POST", "PATCH"):
        assert not lacks_json_type(method, fields(content_type=JSON))
        assert not lacks_json_type(method, fields(content_type="Application/JSON ; charset=utf-8"))
        for other in (
            "text/plain",
            "application/x-www-form-urlencoded",
            f"text/plain; {JSON}",
            f"{JSON}, a/b",
            "",
        ):
            assert lacks_json_type(method, fields(content_type=other))
        assert lacks_json_type(method, fields(content_length="0"))
        assert lacks_json_type(method, [])
    assert not lacks_json_type("DELETE", [])
    assert not lacks_json_type("DELETE", fields(content_length="0"))
    assert lacks_json_type("DELETE", fields(content_length="2"))
    assert lacks_json_type("DELETE", fields(transfer_encoding="chunked"))
    assert not lacks_json_type("GET", fields(content_length="2"))
