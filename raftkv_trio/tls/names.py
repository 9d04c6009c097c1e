"""Which nodes a certificate is for.

A certificate that names nodes by URIs, `raftkv://CLUSTER/ID` with the cluster's id in hexadecimal, is for
these nodes and no others, wherever they are. One without such a URI is for every node at a host that it
names.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raftkv_trio.addresses import a_label_form
from raftkv_trio.certificates.names import node_uri
from raftkv_trio.foreign_text import printable

_NODE_URI = re.compile(r"raftkv://([0-9a-f]{1,16})/([0-9]{1,19})")


class Names(NamedTuple):
    """The names in a certificate (subject alternative names), with host names as `a_label_form`."""

    uris: frozenset[str]
    hosts: frozenset[str]
    addresses: frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]

    @classmethod
    def of(cls, certificate: Mapping[str, object]) -> "Names":
        """Those of a certificate as Python's `ssl` gives it. Names that are malformed are left out."""
        uris, hosts, addresses = set(), set(), set()
        for kind, value in _alternatives(certificate):
            if kind == "URI":
                uris.add(value)
            elif kind == "DNS":
                hosts.add(a_label_form(value))
            elif kind == "IP Address":
                try:
                    addresses.add(ipaddress.ip_address(value.strip()))
                except ValueError:
                    continue
        return cls(frozenset(uris), frozenset(hosts), frozenset(addresses))

    @property
    def nodes(self) -> frozenset[tuple[int, int]]:
        """The nodes that URIs name, each as cluster id and node id."""
        found = (_NODE_URI.fullmatch(uri) for uri in self.uris)
        return frozenset((int(match[1], 16), int(match[2])) for match in found if match)

    def include_host(self, host: str) -> bool:
        """Whether this host is among the names. `*.example` stands for one label in place of the `*`."""
        try:
            return ipaddress.ip_address(host) in self.addresses
        except ValueError:
            name = a_label_form(host)
        return name in self.hosts or f"*.{name.partition('.')[2]}" in self.hosts

    def include(self, san: str) -> bool:
        """Whether this very name is among them: a URI, a host name, or an IP address."""
        try:
            return ipaddress.ip_address(san) in self.addresses
        except ValueError:
            return san in self.uris or a_label_form(san) in self.hosts

    def __str__(self) -> str:
        """For people: the names, separated by commas."""
        names = sorted([*self.uris, *self.hosts, *map(str, self.addresses)])
        return printable(", ".join(names)) or "nobody"


class NodeCheck:
    """Decides whether a certificate is for a node.

    Args:
        allowed: names of certificates that may speak for any node.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(allowed)

    def objection(
        self, names: Names, cluster_id: int | None, node_id: int, hosts: Iterable[str]
    ) -> str | None:
        """Why a certificate is not that node's, as a sentence; None if it may be.

        Args:
            cluster_id: of the node; None if it is not known yet.
            hosts: at which the node is, by its URL.
        """
        if self.is_allowed(names):
            return None
        if names.nodes:
            if is_named(names, cluster_id, node_id):
                return None
        elif any(map(names.include_host, hosts)):
            return None
        wanted = f"raftkv://CLUSTER/{node_id}" if cluster_id is None else node_uri(cluster_id, node_id)
        return (
            f"the certificate of node {node_id} is for {names}; give the node one for {wanted}, or one"
            " without raftkv:// for the host in its peer URL"
        )

    def is_allowed(self, names: Names) -> bool:
        """Whether the certificate may speak for any node."""
        return any(map(names.include, self._allowed))


def is_named(names: Names, cluster_id: int | None, node_id: int) -> bool:
    """Whether a URI names this very node."""
    return any(node == node_id and cluster_id in (None, cluster) for cluster, node in names.nodes)


def common_name(certificate: Mapping[str, object]) -> str | None:
    """The common name of a certificate's subject, as of Python's `ssl`; None if it has none, or several."""
    subject = certificate.get("subject", ())
    pairs = [pair for part in subject for pair in part] if isinstance(subject, tuple) else []
    names = [value for kind, value in pairs if kind == "commonName"]
    return names[0] if len(names) == 1 and names[0] else None


def _alternatives(certificate: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    pairs = certificate.get("subjectAltName", ())
    return pairs if isinstance(pairs, tuple) else ()
