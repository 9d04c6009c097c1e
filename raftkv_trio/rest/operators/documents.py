"""The forms of responses under `/-/`: a sentence, JSON, and a problem document (RFC 9457) for an error.

The server adds `Cache-Control: no-store` to every response.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from quart import g, request
from quart_trio.wrappers import TrioResponse

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.http import retry_after
from raftkv_trio.rest.status_codes import challenge

PROBLEM_TYPE = "application/problem+json"


class Response(TrioResponse):
    """A response whose content type is named by its maker; no type without content."""

    default_mimetype = None  # type: ignore[assignment]  # Quart's would be text/html


def text(sentence: str) -> Response:
    """A 200 with a sentence for people."""
    return Response(sentence + "\n", HTTPStatus.OK, content_type="text/plain; charset=utf-8")


def document(value: object) -> Response:
    """A 200 with a JSON document."""
    return Response(json.dumps(value) + "\n", HTTPStatus.OK, content_type="application/json")


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """A problem document whose `detail` is a sentence; `members` are for programs."""
    return Response(
        problem_content(status, detail, **members),
        status,
        {**retry_after(status), **challenge(status), **(headers or {})},
        content_type=PROBLEM_TYPE,
    )


def problem_content(status: int, detail: str, **members: object) -> bytes:
    """The content of a problem document; its media type is `PROBLEM_TYPE`."""
    value = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return json.dumps({**value, **members}).encode() + b"\n"


def head_fields() -> list[tuple[bytes, bytes]]:
    """The fields of the request's head as they were sent, with names in lower case."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]


async def read_json(otherwise: str) -> Any:
    """The content as JSON; None without content. Raises MalformedRequest, with the sentence `otherwise`.

    It may have taken a while to arrive, so it is looked at once more whether who asks may do so
    (`rights.py`); raises AuthFailed.

    Quart's own reader would answer bytes that are not UTF-8 with an error of its own.
    """
    content = await request.get_data(True, False, False)
    if "check_asker" in g:
        await g.check_asker()
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(otherwise) from error
