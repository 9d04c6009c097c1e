"""What browsers may be made to send by pages of other sites, and every API for clients refuses.

A browser sends requests to any server that it can reach, on behalf of any page, and a node asks nobody for a
password. What protects it:

- A change that a page of another origin asks for is refused. The browser says where the page is from, in
  `Origin` (RFC 6454) and `Sec-Fetch-Site` (Fetch Metadata); a page cannot forge either. What is no browser
  sends neither. Browsers send `Origin` with changes, and `Sec-Fetch-Site` over TLS and to `localhost`.
- `Sec-Fetch-Site: same-origin` counts more than an `Origin` that differs from `Host`: a proxy may have
  replaced `Host`, and only the browser knows the name that it has asked for. But the proxy may be what DNS
  rebinding leads to, so that name must be a known one.
- A page of another origin may ask for a read, but not see the answer: no response has a CORS field, except
  those of etcd's gateway, where only version and health are read by GET. So no request with a safe method may
  change anything. One that costs much asks `may_be_of_another_site` too.
- With DNS rebinding the page's own name leads to this server, so that its origin is the server's. Then `Host`
  has that name: a name that is not known to be a node's is refused, for reads too. IP addresses need no list,
  since a page at an address was served from that address.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus

from raftkv_trio.addresses import a_label_form
from raftkv_trio.config import ANY_HOST
from raftkv_trio.http.messages import Refusal

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::[0-9]*)?")
#: What `Sec-Fetch-Site` says of the server's own pages, and of what the user has asked for instead of a page.
#: `same-site` is another origin all the same.
_OWN_SITES = (_SAME_ORIGIN := b"same-origin", b"none")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}

Fields = Iterable[tuple[bytes, bytes]]


class KnownHosts:
    """The hosts under which clients may ask for this server.

    Args:
        names: they never change; `ANY_HOST` among them knows all.
        members: the hosts of the members at this moment; called only for a host that is not among `names`.
    """

    def __init__(self, names: Iterable[str], members: Callable[[], Iterable[str]]) -> None:
        self._names = frozenset({"localhost", *map(a_label_form, names)})
        self._members = members

    def include(self, authority: bytes) -> bool:
        """Whether the content of `Host` names a known host, an IP address, or nothing at all."""
        host = _name_in(authority)
        return (
            host is None
            or host in self._names
            or ANY_HOST in self._names
            or any(host == a_label_form(member) for member in self._members())
        )


def refusal_of(method: str, fields: Fields, hosts: KnownHosts) -> Refusal | None:
    """Why a request must not be carried out that a browser may have sent; None if it may.

    Args:
        fields: of the request's head, with names in lower case.
    """
    field = dict(fields)
    host = field.get(b"host", b"")
    if not hosts.include(host):
        # As etcd does. 421 says what is wrong: this server does not answer for that name (RFC 9110, 15.5.20).
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST,
            "This node does not know the name in the request's Host; ask for an IP address or a member's"
            " host, or start the node with that name in `raftkv-trio serve --host-whitelist`",
        )
    if method in _SAFE_METHODS:
        return None
    origin, site = field.get(b"origin"), field.get(b"sec-fetch-site")
    is_foreign = origin is not None and not _is_same_authority(origin, host)
    if is_foreign and site == _SAME_ORIGIN:
        authority = _authority_of(origin or b"")
        is_foreign = not (authority and hosts.include(authority))
    if is_foreign or site not in (None, *_OWN_SITES):
        return Refusal(
            HTTPStatus.FORBIDDEN,
            "A page of another origin may change nothing here; send the request from a program",
        )
    return None


def may_be_of_another_site(fields: Fields) -> bool:
    """Whether a page of another origin may have made a browser send this read.

    With a read a browser need not say whose page has asked for it, so one that does not say it is suspected.
    It is known as a browser by its `User-Agent`, which begins with `Mozilla/` in all of them. A page cannot
    change that without a preflight request.

    Args:
        fields: of the request's head, with names in lower case.
    """
    field = dict(fields)
    if (site := field.get(b"sec-fetch-site")) is not None:
        return site not in _OWN_SITES
    return b"origin" in field or field.get(b"user-agent", b"").startswith(b"Mozilla/")


def lacks_json_type(method: str, fields: Fields) -> bool:
    """Whether a change lacks `Content-Type: application/json`; a DELETE needs it only if it has content.

    A browser sends that type to another origin only if a preflight request allows it, which is never the
    case. It is asked for without content too: a page can send an empty POST without a preflight.
    """
    if method in _SAFE_METHODS:
        return False
    field = dict(fields)
    has_content = field.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in field
    if method == "DELETE" and not has_content:  # never sent without a preflight
        return False
    media_type = field.get(b"content-type", b"").partition(b";")[0]
    return media_type.strip().lower() != b"application/json"


# Clients send the same few values again and again, and each request pays for this.
@lru_cache(maxsize=64)
def _name_in(authority: bytes) -> str | None:
    """The host name in `host:port`, as `a_label_form`; None for an IP address, and for no host at all."""
    # Browsers send A-labels; some programs send a name as it was typed. No name has a backslash.
    text = authority.decode(errors="backslashreplace")
    if not text:  # HTTP/1.0, or a proxy; every browser names a host
        return None
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return text  # no name that anybody can have
    host = match[1] or match[2]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return a_label_form(host)
    return None


def _is_same_authority(origin: bytes, host: bytes) -> bool:
    """Whether an origin such as `http://host:port` has the host and port of `Host`; `null` has none."""
    scheme = origin.lower().partition(b"://")[0]
    default_port = _DEFAULT_PORTS.get(scheme, b"")
    authority = _authority_of(origin).lower()
    return authority != b"" and authority.removesuffix(default_port) == host.lower().removesuffix(
        default_port
    )


def _authority_of(origin: bytes) -> bytes:
    """The host and port of an origin; empty if it has none."""
    return origin.partition(b"://")[2]
