"""nginx in front of a node, configured as docs/rest.md says, and with one line of that left out."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.config import RestConfig
from tests.conftest import find_free_ports
from tests.rest.serving import Served, open_server

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PAGE = Path(__file__).parents[2] / "docs" / "rest.md"
NAME = "kv.example.com"
HOST_LINE = "proxy_set_header Host $http_host;"
SIZE_LINE = "client_max_body_size 2m;"
KEYS = (b"/a%2fb", b"/a//b", b"/%7e", b"/k?", b"/k?a=%2f", b"/a/../b", b"/[x]", b"/{x}")
PATIENCE_S = 60

pytestmark = [pytest.mark.long, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]


def example() -> str:
    found = re.search(r"<!-- nginx -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@asynccontextmanager
async def open_nginx(directory: Path, served: Served, example: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx, which asks for `NAME`."""
    (port,) = find_free_ports(1)
    here = example.replace("127.0.0.1:12380", f"127.0.0.1:{served.port}")
    here = here.replace("listen 8080", f"listen 127.0.0.1:{port}")
    assert NGINX is not None
    await trio.Path(directory).mkdir()
    temporary = [
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    ]
    await trio.Path(directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {' '.join(temporary)}\n{here}}}\n"
    )
    command = [NGINX, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    headers = {"Host": f"{NAME}:{port}"}
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE_S, verify=False
        ) as client,
    ):
        process = await nursery.start(trio.run_process, command)
        with trio.fail_after(PATIENCE_S):
            while not await _listens(port):
                assert process.poll() is None
                await trio.sleep(0.02)
        yield client
        nursery.cancel_scope.cancel()


async def _listens(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


async def put_as_it_is(client: httpx.AsyncClient, key: bytes) -> None:
    request = b"PUT %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert client.base_url.port is not None
    async with await trio.open_tcp_stream("127.0.0.1", client.base_url.port) as stream:
        await stream.send_all(request % (key, client.headers["Host"].encode()))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 204 ")


def server(directory: Path, *names: str) -> AbstractAsyncContextManager[Served]:
    return open_server(directory, RestConfig(port=0, host_whitelist=names))


async def test_the_example_of_the_page(tmp_path: Path) -> None:
    """Keys arrive unchanged, pages of that name may change them, and a value may be as large as anywhere."""
    async with (
        server(tmp_path / "data", NAME) as served,
        open_nginx(tmp_path / "nginx", served, example()) as client,
    ):
        origin = {"Origin": f"http://{client.headers['Host']}", "Sec-Fetch-Site": "same-origin"}
        assert (await client.put("/key", content=b"v", headers=origin)).status_code == 204
        assert (await client.get("/key")).content == b"v"
        assert (await client.put("/large", content=bytes(1536 * 1024))).status_code == 204
        foreign = {"Origin": "http://elsewhere.example"}
        assert (await client.put("/key", content=b"w", headers=foreign)).status_code == 403
        for key in KEYS:  # not by httpx, which changes some of them
            await put_as_it_is(client, key)
            assert served.store.get(key) is not None, key


@pytest.mark.parametrize(
    ("names", "left_out", "statuses"),
    [
        ((), "", (421, 421, 421)),
        ((NAME,), HOST_LINE, (421, 421, 421)),
        ((NAME, "node"), HOST_LINE, (204, 403, 204)),
        ((NAME,), SIZE_LINE, (204, 204, 413)),
    ],
)
async def test_what_each_line_is_for(
    tmp_path: Path, names: tuple[str, ...], left_out: str, statuses: tuple[int, int, int]
) -> None:
    """Without it a put is refused: any put, that of a page, or that of a large value."""
    async with (
        server(tmp_path / "data", *names) as served,
        open_nginx(tmp_path / "nginx", served, example().replace(left_out, "")) as client,
    ):
        origin = {"Origin": f"http://{client.headers['Host']}"}
        answers = (
            await client.put("/key", content=b"v"),
            await client.put("/key", content=b"v", headers=origin),
            await client.put("/large", content=bytes(1536 * 1024)),
        )
        assert tuple(answer.status_code for answer in answers) == statuses
        assert all("--host-whitelist" in answer.text for answer in answers if answer.status_code == 421)
