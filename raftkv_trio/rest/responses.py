"""The responses that requests on keys have in common."""

from collections.abc import Mapping
from http import HTTPStatus

from raftkv_trio.http import Response, with_content

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
ALLOW = {"Allow": ", ".join(METHODS)}


def empty(status: HTTPStatus, fields: Mapping[str, str]) -> Response:
    """No content and no Content-Length: a 204 must not have one, and a 304 need not."""
    return Response(status, fields)


def octets(content: bytes, fields: Mapping[str, str]) -> Response:
    """A 200 with bytes of any kind."""
    return with_content(HTTPStatus.OK, content, "application/octet-stream", fields)
