"""The names in certificates: a URI that says which node of which cluster this is, and hosts."""

import ipaddress
import re
from typing import TypeAlias

from raftkv_trio.addresses import MAX_HOST_BYTES, a_label_form, is_wildcard
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable

Host: TypeAlias = str | ipaddress.IPv4Address | ipaddress.IPv6Address
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A last label of digits would be read as the end of an IPv4 address, as in 127.1.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_CLUSTER_URI = re.compile(r"raftkv://([0-9a-f]{1,16})")


def cluster_uri(cluster_id: int) -> str:
    """The URI by which the certificate of a CA names the cluster that the CA is for."""
    return f"raftkv://{cluster_id:x}"


def node_uri(cluster_id: int, node_id: int) -> str:
    """The URI by which a certificate names a node: `raftkv://CLUSTER/ID`, CLUSTER in hexadecimal."""
    return f"{cluster_uri(cluster_id)}/{node_id}"


def cluster_id_in(uri: str) -> int | None:
    """The cluster that a `cluster_uri` names; None if the URI is of another kind."""
    match = _CLUSTER_URI.fullmatch(uri)
    return int(match[1], 16) if match else None


def parse_host(text: str) -> Host:
    """The host that a certificate is for: an IP address, or a host name as certificates have it.

    Raises ConfigError for everything else: a URL, a port, a wildcard, and an address that nobody can dial.
    """
    bare = text[1:-1] if text[:1] + text[-1:] == "[]" else text
    if is_wildcard(bare):
        raise ConfigError(f"host '{text}' means all addresses; name those at which the node is reached")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        name = a_label_form(text)
        if len(name) <= MAX_HOST_BYTES and _HOST_NAME.fullmatch(name):
            return name
    else:
        if isinstance(address, ipaddress.IPv4Address) or address.scope_id is None:
            return address
    raise ConfigError(
        f"host '{printable(text)}' is no host name or IP address that a certificate can have; leave out"
        " scheme, port, zone and wildcards"
    )
