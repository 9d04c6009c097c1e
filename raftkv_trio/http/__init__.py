"""Clients' connections: from an accepted socket to a request that somebody answers, and back.

Every API for clients stands on this room; it knows none of them.

- `listener.py`: the accept loop, the limit of connections, the shutdown.
- `client_connection.py`: one connection: reading, answering and sending, each with a deadline.
- `parser.py`: bytes to requests, by a parser in C.
- `messages.py`: a request, a response, and a service, which makes the one of the other.
- `app_exchange.py`: the requests that a service leaves to an ASGI app, by way of Hypercorn.
- `streamed_content.py`: a response that is sent while it is made.
- `contents.py`: receives the content of requests, in bounds.
- `places.py`: how many connections there may be, and which gives way if there are more.
- `browsers.py`: what is refused because a browser may have sent it for a page of another site.
"""

from raftkv_trio.http.browsers import KnownHosts, lacks_json_type, may_be_of_another_site, refusal_of
from raftkv_trio.http.client_connection import BUG, Http2, OtherProtocol
from raftkv_trio.http.contents import ContentReceiver
from raftkv_trio.http.listener import open_http_listeners, serve_http, serve_http_temporarily
from raftkv_trio.http.messages import (
    Refusal,
    Request,
    Response,
    SendPart,
    Service,
    StreamedResponse,
    plain,
    retry_after,
    with_content,
)
from raftkv_trio.http.parser import NO_TARGET

__all__ = [
    "BUG",
    "NO_TARGET",
    "ContentReceiver",
    "Http2",
    "KnownHosts",
    "OtherProtocol",
    "Refusal",
    "Request",
    "Response",
    "SendPart",
    "Service",
    "StreamedResponse",
    "lacks_json_type",
    "may_be_of_another_site",
    "open_http_listeners",
    "plain",
    "refusal_of",
    "retry_after",
    "serve_http",
    "serve_http_temporarily",
    "with_content",
]
