"""What operators send as JSON."""

import json
from typing import Any

from quart import request

from raftkv_trio.errors import MalformedRequest


async def read_json(otherwise: str) -> Any:
    """The content as JSON, None where there is none; raises MalformedRequest, which says `otherwise`.

    Quart's own reader answers bytes that are not UTF-8 with an error of its own.
    """
    content = await request.get_data(True, False, False)
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(otherwise) from error
