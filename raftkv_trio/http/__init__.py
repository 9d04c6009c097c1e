"""Clients' connections: from an accepted socket to a request that an ASGI app answers.

Every API for clients stands on this room; it knows none of them.

- `listener.py`: the accept loop, the limit of connections, the shutdown.
- `client_connection.py`: one connection: reading and sending, each with a deadline.
- `places.py`: how many connections there may be, and which gives way if there are more.
- `browsers.py`: what is refused because a browser may have sent it for a page of another site.
- `protocol.py`: bytes to requests and back; Hypercorn's HTTP/1.1 protocol over h11, and what we change in it.
"""

from raftkv_trio.http.browsers import KnownHosts, Refusal, lacks_json_type, may_be_of_another_site, refusal_of
from raftkv_trio.http.listener import open_http_listeners, serve_http, serve_http_temporarily
from raftkv_trio.http.protocol import TARGET

__all__ = [
    "TARGET",
    "KnownHosts",
    "Refusal",
    "lacks_json_type",
    "may_be_of_another_site",
    "open_http_listeners",
    "refusal_of",
    "serve_http",
    "serve_http_temporarily",
]
