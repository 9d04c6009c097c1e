"""HTTP by hand: what a benchmark asks once, and a single client that is timed."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from benchmarks.processes import BenchmarkError

_ASK_S = 10.0
_FILLING_CONNECTIONS = 8


def connect(url: str, timeout_s: float = _ASK_S) -> http.client.HTTPConnection:
    """A connection to `http://host:port`; the caller closes it."""
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout_s)


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """One request, and status and content of its response. Raises OSError or HTTPException."""
    connection.request(method, path, body, {"Content-Type": "application/json"} if path[:3] == "/-/" else {})
    response = connection.getresponse()
    return response.status, response.read()


def ask(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | None:
    """One request over a connection of its own; None if no response comes."""
    try:
        with closing(connect(url)) as connection:
            return exchange(connection, method, path, body)
    except (OSError, http.client.HTTPException):
        return None


def ask_json(url: str, method: str, path: str, body: bytes | None = None) -> Any:
    """The document of a response; None if there is none."""
    answer = ask(url, method, path, body)
    try:
        return None if answer is None else json.loads(answer[1])
    except ValueError:
        return None


def send_all(url: str, requests: list[tuple[str, str, bytes]]) -> None:
    """Make these requests, in any order. Raises BenchmarkError if one of them does not succeed."""

    def send(part: list[tuple[str, str, bytes]]) -> None:
        with closing(connect(url)) as connection:
            for method, path, body in part:
                status, _ = exchange(connection, method, path, body)
                if status >= 300:
                    raise BenchmarkError(f"{url} answers {method} {path} with status {status}")

    parts = [requests[number::_FILLING_CONNECTIONS] for number in range(_FILLING_CONNECTIONS)]
    with ThreadPoolExecutor(_FILLING_CONNECTIONS) as pool:
        try:
            list(pool.map(send, parts))
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"{url} does not take the keys: {error}") from error
