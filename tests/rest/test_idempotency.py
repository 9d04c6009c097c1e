"""`Idempotency-Key`: a write is applied once, through all retries of a client."""

import httpx
import pytest
import trio

from tests.rest.serving import Served

KEY = {"Idempotency-Key": "5f3c9e"}


async def test_a_retry_is_not_applied_again(client: httpx.AsyncClient, served: Served) -> None:
    """It has the first answer, whatever came in between; the same write with another key is applied."""
    first = await client.put("/key", content=b"1", headers=KEY)
    await client.put("/key", content=b"2")
    again = await client.put("/key", content=b"1", headers=KEY)
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["ETag"] == first.headers["ETag"] == '"2"'
    assert (await client.get("/key")).content == b"2"
    other = await client.put("/key", content=b"1", headers={"Idempotency-Key": "another"})
    assert other.headers["ETag"] == '"4"'
    assert served.store.revision == 4


async def test_retries_at_once(client: httpx.AsyncClient, served: Served) -> None:
    """Many retries that arrive together are one write."""
    tags = []

    async def put() -> None:
        tags.append((await client.put("/key", content=b"1", headers=KEY)).headers["ETag"])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(put)
    assert tags == ['"2"'] * 20
    assert served.store.revision == 2


async def test_a_delete_and_a_condition(client: httpx.AsyncClient) -> None:
    """The second DELETE is 204 too, and a condition that failed fails again, as the first time."""
    await client.put("/key", content=b"1")
    deletes = [await client.delete("/key", headers=KEY) for _ in range(2)]
    assert [response.status_code for response in deletes] == [204, 204]
    create = {"Idempotency-Key": "c", "If-None-Match": "*"}
    assert (await client.put("/key", content=b"2", headers=create)).status_code == 204
    assert (await client.put("/key", content=b"2", headers=create)).status_code == 204
    late = {"Idempotency-Key": "d", "If-Match": '"2"'}
    failed = [await client.put("/key", content=b"3", headers=late) for _ in range(2)]
    assert [(r.status_code, r.headers["ETag"]) for r in failed] == [(412, '"4"')] * 2


async def test_another_request_with_the_same_key(client: httpx.AsyncClient, served: Served) -> None:
    """It is refused, and changes nothing."""
    await client.put("/key", content=b"1", headers=KEY)
    for response in (
        await client.put("/key", content=b"2", headers=KEY),
        await client.put("/other", content=b"1", headers=KEY),
        await client.delete("/key", headers=KEY),
    ):
        assert response.status_code == 422
        assert "give each request a key of its own" in response.text
    assert served.store.revision == 2


@pytest.mark.parametrize("value", ["", "x" * 256])
async def test_a_key_that_is_none(client: httpx.AsyncClient, value: str) -> None:
    """The sentence says how long a key is."""
    response = await client.put("/key", content=b"1", headers={"Idempotency-Key": value})
    assert (response.status_code, response.text) == (
        400,
        "Idempotency-Key has 1 to 255 bytes, in one line\n",
    )


async def test_several_tags(client: httpx.AsyncClient) -> None:
    """Which of several tags count depends on the state, so they do not go with a key."""
    headers = {**KEY, "If-Match": '"1", "2"'}
    response = await client.put("/key", content=b"1", headers=headers)
    assert (response.status_code, "one entity tag at most" in response.text) == (400, True)
