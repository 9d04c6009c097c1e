"""The addresses of members: peer URLs, the list of the members of a new cluster, and its cluster id."""

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self
from urllib.parse import urlsplit

from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable

#: The longest host name, as the resolver writes it: RFC 1035, section 2.3.4, in text.
MAX_HOST_BYTES = 253
#: The longest URL that a configuration or a member names. A URL is in the log, in handshakes, and in reasons.
MAX_URL_CHARACTERS = 512
_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[\w:.%]+\]):[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """The address at which a member listens for its peers.

    Two addresses that differ only in the scheme of their URLs are the same one.

    Attributes:
        is_tls: whether it was written with https://.

    Raises ConfigError if the host name is longer than any that can be resolved.
    """

    host: str
    port: int
    is_tls: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        # Checked here too: a program that embeds a node makes addresses without `parse`.
        if len(self.host) > MAX_HOST_BYTES:
            raise ConfigError(f"a host name has {len(self.host)} characters; use at most {MAX_HOST_BYTES}")

    @property
    def url(self) -> str:
        """The address as `http://host:port`, with brackets around an IPv6 address, with TLS or without."""
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """The address as `host:port`, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, what: str = "peer URL", *, needs_scheme: bool = True) -> Self:
        """The address that `http://host:port`, `tcp://host:port` or `https://host:port` names.

        The first two mean the same; so does the third one, but with TLS.

        Args:
            what: what the text is, for the error.
            needs_scheme: whether `host:port` alone is refused.

        Raises:
            ConfigError: the text is no such address.
        """
        if len(text) > MAX_URL_CHARACTERS:  # it is not repeated: the text may go to a log, or over the wire
            raise ConfigError(f"{what} has {len(text)} characters; use at most {MAX_URL_CHARACTERS}")
        shown = f"'{printable(text)}'"
        is_bare = not needs_scheme and "://" not in text
        form = "host:port" if is_bare else "http://host:port"
        try:
            parts = urlsplit(f"http://{text}" if is_bare else text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            reason = printable(str(error))
            raise ConfigError(f"{what} {shown} is malformed ({reason}); write {form}") from error
        if parts.scheme not in ("http", "https", "tcp"):
            # `host:port` looks like a scheme with a path.
            example = f"http://{printable(text)}" if _HOST_AND_PORT.fullmatch(text) else "http://host:port"
            raise ConfigError(
                f"{what} {shown} does not begin with http://, https:// or tcp://; write {example}"
            )
        if (
            not host
            or not port
            or parts.path not in ("", "/")
            or re.search(r"[\s?#@]", text)  # urlsplit removes or accepts some of these
            or not _is_host(host)
        ):
            raise ConfigError(f"{what} {shown} is not of the form {form}")
        return cls(host, port, is_tls=parts.scheme == "https")


@dataclass(frozen=True, slots=True)
class ClientAddress(PeerAddress):
    """The address at which a member listens for clients; with TLS it is another one than without."""

    is_tls: bool = False

    @property
    def url(self) -> str:
        """The address as `http://host:port`, or with TLS as `https://host:port`."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"


def is_loopback(host: str) -> bool:
    """Whether a socket that is bound to this host can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(host: str) -> bool:
    """Whether a socket that is bound to this host listens at all addresses, so that no client can dial it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == "0"  # as the resolver reads 0.0.0.0; any other text is a name


@lru_cache(maxsize=64)  # requests ask for the same few names again and again
def a_label_form(name: str) -> str:
    """The one form in which host names are compared: A-labels (`xn--...`), in lower case, without a last dot.

    A name that can be of no host has no A-labels: it is returned as it is, in lower case.
    """
    if not name.isascii() and len(name) <= MAX_HOST_BYTES:
        import idna  # not above: its tables take time to load, and few names need them

        try:
            # As Trio's resolver and browsers do (UTS #46). Python's own codec makes another name of some.
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            pass
    return name.lower().removesuffix(".")


def may_be_same_host(one: str, other: str) -> bool:
    """Whether two sockets that are bound to these hosts would meet if they had the same port.

    Names are compared as they are written: only binding them shows where they lead.
    """
    return one == other or is_wildcard(one) or is_wildcard(other)


def _is_host(text: str) -> bool:
    try:
        name = text.encode("idna")  # as the resolver does: UnicodeError for an empty or a long label
    except UnicodeError:
        return False
    return len(name) <= MAX_HOST_BYTES and re.fullmatch(r"[\w.:%-]+", text) is not None


def parse_cluster(text: str) -> dict[int, PeerAddress]:
    """The members of a cluster, by id, from a list separated by commas.

    The list has URLs, whose ids are their positions from 1, or `id=url` pairs. Raises ConfigError for a
    malformed or repeated id or URL, or a mixture of both forms.
    """
    items = [item.strip() for item in text.split(",")]
    if not any(items):
        raise ConfigError("`members` is empty; name at least one peer URL such as http://127.0.0.1:9021")
    if not all(items):
        raise ConfigError("`members` has an empty entry; it would shift the ids, which are the positions")
    with_ids = [re.fullmatch(r"([^=/:]+)=(.*)", item) for item in items]
    if any(with_ids) and not all(with_ids):
        raise ConfigError("`members` mixes plain URLs and id=url pairs; use one form for all")
    members: dict[int, PeerAddress] = {}
    for position, (item, pair) in enumerate(zip(items, with_ids, strict=True), start=1):
        member_id, url = (parse_node_id(pair[1]), pair[2]) if pair else (position, item)
        address = PeerAddress.parse(url)
        if member_id in members:
            raise ConfigError(f"`members` names id {member_id} twice")
        if address in members.values():
            raise ConfigError(f"`members` names {address.url} twice")
        members[member_id] = address
    return members


def parse_node_id(text: str) -> int:
    """The node id that a text has, a positive integer; raises ConfigError."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 1 <= int(text) <= MAX_NODE_ID:
        raise ConfigError(f"node id '{printable(text)}' is not a positive integer below 2**63")
    return int(text)


def cluster_id_of(members: Mapping[int, PeerAddress], token: str) -> int:
    """The id of a new cluster: 63 bits of a hash of the sorted ids and URLs and the token."""
    text = "\n".join([*(f"{i}={members[i].url}" for i in sorted(members)), token])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def restored_cluster_id(cluster_id: int, backup_hash: bytes) -> int:
    """The id of a new cluster that begins with a backup; `cluster_id` is what it would be without."""
    text = b"restored\n%x\n%s" % (cluster_id, backup_hash)
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


MAX_NODE_ID = 2**63 - 1


@lru_cache(1024)
def host_of(address: str) -> str:
    """The host that a client's address belongs to: the address itself, or the network of one IPv6 host.

    An IPv6 host has all addresses of its /64 (RFC 4291, section 2.5.4), so they count as one.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # of no known form: a host of its own
        return address
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:  # of an IPv4 client, on a socket for both
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()
