"""The forms of this app's responses. Every one says `Cache-Control: no-store`, which the server adds.

An error at the root is one plain sentence, as raftexample has it; under `/-/` it is a problem document
(RFC 9457). `Retry-After` is in both where trying again makes sense.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioResponse

RETRY_AFTER_S = 1
_TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Response(TrioResponse):
    """A response whose content, if any, is bytes of a type that its maker names."""

    default_mimetype = None  # type: ignore[assignment]  # Quart's would be text/html, on an empty 204 too


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """No content, and so no Content-Length, which a 204 must not and a 304 need not have."""
    return Response(DataBody(b""), status, dict(headers))


def octets(content: bytes, headers: Mapping[str, str]) -> Response:
    """A 200 with bytes of whatever kind."""
    return Response(content, HTTPStatus.OK, dict(headers), content_type="application/octet-stream")


def document(value: object) -> Response:
    """A 200 with a JSON document."""
    return Response(json.dumps(value) + "\n", HTTPStatus.OK, content_type="application/json")


def plain(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """A sentence for people."""
    return Response(
        sentence + "\n", status, _fields(status, headers), content_type="text/plain; charset=utf-8"
    )


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem document whose `detail` is a sentence."""
    text = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(
        json.dumps(text) + "\n", status, _fields(status, headers), content_type="application/problem+json"
    )


def _fields(status: int, headers: Mapping[str, str] | None) -> dict[str, str]:
    retry_after = {"Retry-After": str(RETRY_AFTER_S)} if status in _TRY_AGAIN else {}
    return {**retry_after, **(headers or {})}
