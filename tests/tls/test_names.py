"""Which nodes a certificate is for, by its names."""

import pytest

from raftkv_trio.tls.names import Names, NodeCheck, common_name, is_named

CLUSTER = 0xABC


def names(*sans: tuple[str, str]) -> Names:
    return Names.of({"subjectAltName": sans})


@pytest.mark.parametrize(
    ("sans", "host", "is_for"),
    [
        ([("URI", "raftkv://abc/2")], "a.example", True),
        ([("URI", "raftkv://abc/3"), ("URI", "raftkv://abc/2")], "a.example", True),
        ([("URI", "raftkv://abc/3")], "a.example", False),
        ([("URI", "raftkv://abe/2")], "a.example", False),
        # A URI says which node it is; then its hosts, which nodes may share, say nothing.
        ([("URI", "raftkv://abc/3"), ("DNS", "a.example")], "a.example", False),
        ([("URI", "raftkv://abc/3"), ("IP Address", "10.0.0.1")], "10.0.0.1", False),
        ([("URI", "https://a.example/2"), ("DNS", "a.example")], "a.example", True),
        ([("URI", "raftkv://ABC/2")], "a.example", False),
        ([("URI", "raftkv://abc/2/")], "a.example", False),
        ([("DNS", "a.example")], "a.example", True),
        ([("DNS", "A.Example")], "a.example", True),
        ([("DNS", "xn--gre-6ka8l.example")], "grüße.example", True),
        ([("DNS", "b.example")], "a.example", False),
        ([("DNS", "*.example")], "a.example", True),
        ([("DNS", "*.example")], "b.a.example", False),
        ([("DNS", "*.example")], "example", False),
        ([("DNS", "*")], "a", False),
        ([("DNS", "*.0.0.1")], "10.0.0.1", False),
        ([("IP Address", "10.0.0.1")], "10.0.0.1", True),
        ([("IP Address", "10.0.0.2")], "10.0.0.1", False),
        ([("DNS", "10.0.0.1")], "10.0.0.1", False),
        ([("IP Address", "0:0:0:0:0:0:0:1\n")], "::1", True),
        ([], "a.example", False),
    ],
)
def test_a_certificate_is_for_a_node(sans: list[tuple[str, str]], host: str, is_for: bool) -> None:
    """By its URI, wherever the node is; without one by the host at which the cluster knows the node."""
    objection = NodeCheck().objection(names(*sans), CLUSTER, 2, [host])
    assert (objection is None) is is_for
    if objection is not None:
        assert objection.startswith("the certificate of node 2 is for ")
        assert "give the node one for raftkv://abc/2" in objection


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (((("organizationName", "Example"),), (("commonName", "alice"),)), "alice"),
        (((("organizationName", "Example"), ("commonName", "alice")),), "alice"),
        (((("commonName", ""),),), None),
        (((("commonName", "alice"),), (("commonName", "root"),)), None),
        (((("organizationName", "root"),),), None),
        ((), None),
    ],
)
def test_a_common_name_is_the_only_one(subject: object, name: str | None) -> None:
    """Programs differ in which of several they take, so none of these counts."""
    assert common_name({"subject": subject}) == name
    assert common_name({"subjectAltName": (("DNS", "root"),)}) is None


def test_the_cluster_may_not_be_known_yet() -> None:
    """A joiner does not know it; what it is told is checked when it is told."""
    shown = names(("URI", "raftkv://abe/2"))
    assert NodeCheck().objection(shown, None, 2, []) is None
    assert "raftkv://CLUSTER/3" in str(NodeCheck().objection(shown, None, 3, []))
    assert is_named(shown, 0xABE, 2)
    assert not is_named(shown, 0xABC, 2)


def test_some_may_speak_for_any_node() -> None:
    """Whatever else is in such a certificate."""
    check = NodeCheck(["ops.example", "10.0.0.9", "spiffe://example/ops"])
    for san in (("DNS", "OPS.example"), ("IP Address", "10.0.0.9"), ("URI", "spiffe://example/ops")):
        assert check.objection(names(san, ("URI", "raftkv://abc/7")), CLUSTER, 2, ["a"]) is None
    assert check.objection(names(("DNS", "*.example")), CLUSTER, 2, ["a"]) is not None


def test_what_is_malformed_is_nobody() -> None:
    """And does no harm in a log."""
    shown = names(("IP Address", "1.2.3"), ("email", "a@b"), ("DNS", "a\x1b[31m"))
    assert "\x1b" not in str(NodeCheck().objection(shown, CLUSTER, 2, ["a"]))
    assert str(Names.of({})) == "nobody"
