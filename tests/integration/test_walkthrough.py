"""The documents' walkthroughs: their commands word for word but for the ports, on real processes."""

import re
import shlex
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trio

from tests.conftest import find_free_ports
from tests.integration.terminal import PATH, Terminal, open_terminal

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
NAMES = ("raftkv1", "raftkv2", "raftkv3")


class Answer(NamedTuple):
    """A status code and a text, or a command's exit code and output."""

    code: int
    text: str


class Ports:
    """A free port for each port that documents and Procfile name."""

    def __init__(self) -> None:
        self._others: dict[str, int] = {}

    def replace(self, text: str) -> str:
        return re.sub(r"\b[1234]23(78|79|80)\b", lambda port: str(self.other(port[0])), text)

    def other(self, port: str) -> int:
        return self._others.setdefault(port, *find_free_ports(1))


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def procfile(tmp_path: Path, ports: Ports) -> Path:
    """The repository's own, with other ports, in a directory of its own."""
    procfile = tmp_path / "Procfile"
    procfile.write_text(ports.replace((ROOT / "Procfile").read_text()))
    return procfile


def commands(name: str, document: Path = README) -> list[str]:
    """The commands of the code block behind this marker of a document."""
    marked = rf"^<!-- {name} -->\n```\n(.*?)^```$"
    block = re.search(marked, document.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None, f"{document.name} has no code block after <!-- {name} -->"
    return block[1].splitlines()


async def do(command: str, directory: Path) -> Answer:
    """Do what a user's shell does with a line of a document; for curl the code is the HTTP status."""
    return await trio.to_thread.run_sync(run, command, directory)


def run(command: str, directory: Path) -> Answer:
    arguments = shlex.split(command, comments=True)
    if arguments[0] == "curl":
        return curl(arguments[1:], directory)
    done = subprocess.run(
        arguments, cwd=directory, env={"PATH": PATH}, capture_output=True, text=True, timeout=60
    )
    return Answer(done.returncode, done.stdout + done.stderr)


def curl(arguments: list[str], directory: Path) -> Answer:
    if shutil.which("curl"):
        command = ["curl", "-sS", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        text, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), text)
    method = next((argument[2:] for argument in arguments if argument.startswith("-X")), "GET")
    url = next(argument for argument in arguments if re.match("https?://", argument))
    fields = [arguments[i + 1].split(": ") for i, argument in enumerate(arguments) if argument == "-H"]
    content = arguments[arguments.index("-d") + 1] if "-d" in arguments else None
    cas = directory / arguments[arguments.index("--cacert") + 1] if "--cacert" in arguments else None
    context = ssl.create_default_context(cafile=cas)
    response = httpx.request(method, url, content=content, headers=dict(fields), timeout=60, verify=context)
    head = f"HTTP/1.1 {response.status_code} \n\n" if "-i" in arguments else ""
    return Answer(response.status_code, head + response.text)


async def wait_ready(*ports: int) -> None:
    async with httpx.AsyncClient() as client:
        for port in ports:
            while not await is_ready(client, port):  # noqa: ASYNC110 - it is another process
                await trio.sleep(0.02)


async def is_ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def wait_shown(terminal: Terminal, pattern: str) -> None:
    while not re.search(pattern, terminal.shown, re.MULTILINE):  # noqa: ASYNC110 - it is another process
        await trio.sleep(0.02)


async def test_three_nodes(procfile: Path, ports: Ports) -> None:
    """Write, read, stop one, write, read, bring it back: as the README says; Ctrl-C then ends everything."""
    put, get, stop, put_bar, get_3, start, get_2 = map(ports.replace, commands("walkthrough"))
    here = procfile.parent
    rest_ports = [ports.other(port) for port in ("12380", "22380", "32380")]

    async with open_terminal(["raftkv-trio", "local", "start"], here) as terminal:
        await wait_ready(*rest_ports)
        assert await do(put, here) == (204, "")
        assert await do(get, here) == (200, "hello")
        assert await do(stop, here) == (0, "raftkv2 stopped, exited with code 0\n")
        assert await do(put_bar, here) == (204, "")
        assert await do(get_3, here) == (200, "bar")
        assert await do("raftkv-trio local run list", here) == (0, "raftkv1\nraftkv2\nraftkv3\n")
        code, status = await do("raftkv-trio local run status", here)
        assert code == 0
        rows = (
            "\\*raftkv1  running, pid (\\d+)\n raftkv2  stopped, exited with code 0\n\\*raftkv3  running, pid"
        )
        assert re.match(rows, status)
        assert (await do(start, here)).text.startswith("raftkv2 is running, pid")
        assert await do(get_2, here) == (200, "bar")
        code, restarted = await do("raftkv-trio local run restart raftkv1", here)
        assert (code, restarted.startswith("raftkv1 is running, pid")) == (0, True)
        assert restarted.split()[-1] not in status
        assert await do(get, here) == (200, "bar")

        assert len(terminal.session()) == 4
        terminal.interrupt()
        assert await terminal.process.wait() == 0
        assert terminal.session() == []
        for name in NAMES:
            await wait_shown(terminal, rf"^local +\| {name} stopped, exited with code 0$")
    assert sorted(path.name for path in here.iterdir()) == [
        "Procfile",
        *(f"raftkv-trio-{number}" for number in (1, 2, 3)),
    ]


async def test_three_nodes_with_tls(procfile: Path, ports: Ports) -> None:
    """One command makes the certificates; then the cluster of the Procfile goes on with TLS, and its data."""
    (procfile.parent / "Procfile.tls").write_text(ports.replace((ROOT / "Procfile.tls").read_text()))
    make, start, put, get, status = map(ports.replace, commands("tls-walkthrough", OPERATING))
    here = procfile.parent
    put_plain = ports.replace(commands("walkthrough")[0])
    get_plain = ports.replace(commands("walkthrough")[1])
    async with open_terminal(["raftkv-trio", "local", "start"], here) as terminal:
        await wait_ready(*[ports.other(port) for port in ("12380", "22380", "32380")])
        assert await do(put_plain, here) == (204, "")
        terminal.interrupt()
        assert await terminal.process.wait() == 0

    assert (await do(make, here)).code == 0
    async with open_terminal(shlex.split(start, comments=True), here) as terminal:
        await wait_shown(
            terminal, r"node [123] leads; try: curl --cacert certs/ca\.crt https://127\.0\.0\.1:"
        )
        kept = get_plain.replace("http:", "https:").replace("curl ", "curl --cacert certs/ca.crt ")
        assert await do(kept, here) == (200, "hello")
        assert await do(put, here) == (204, "")
        assert await do(get, here) == (200, "secret")
        code, table = await do(status, here)
        assert (code, table.count("  ok  "), "CERTS END" in table) == (0, 3, True)
        assert (await do(get_plain, here)).code == 400
        assert (await do("raftkv-trio local run -f Procfile.tls restart raftkv2", here)).code == 0
        assert await do(get, here) == (200, "secret")
        terminal.interrupt()
        assert await terminal.process.wait() == 0
        assert "Traceback" not in terminal.shown


async def test_two_of_three_are_down(procfile: Path, ports: Ports) -> None:
    """A lost majority is as the README says: 503 or 504, an old answer if asked for one; then all is well."""
    put_bar = ports.replace(commands("walkthrough")[3])
    stop, put_lost, get, get_old, start, get_again = map(ports.replace, commands("majority-lost"))
    here = procfile.parent
    rest_ports = [ports.other(port) for port in ("12380", "22380", "32380")]
    async with open_terminal(["raftkv-trio", "local", "start"], here) as terminal:
        await wait_ready(*rest_ports)
        assert await do(put_bar, here) == (204, "")
        assert (await do(stop, here)).code == 0
        lost = await do(put_lost, here)
        assert lost.code in (503, 504)
        said = await do(get, here)
        assert (said.code, "no leader is known" in said.text) == (503, True)
        old = await do(get_old, here)
        assert (old.code, old.text.splitlines()[-1]) == (200, "bar")
        for answer in (lost, said, old):  # the user sees it, and not only the test
            assert answer.text.startswith(f"HTTP/1.1 {answer.code} ")
        assert (await do(start, here)).code == 0
        await wait_ready(*rest_ports)
        assert (await do(get_again, here)).text in (("bar", "lost") if lost.code == 504 else ("bar",))
        terminal.interrupt()
        assert await terminal.process.wait() == 0


async def test_members_come_and_go(procfile: Path, ports: Ports) -> None:
    """A fourth node joins three, as docs/operating.md says, and the third is removed, and ends well."""
    post, serve, get, delete = map(ports.replace, commands("members", OPERATING))
    put_bar = ports.replace(commands("walkthrough")[3])
    here = procfile.parent
    async with open_terminal(["raftkv-trio", "local", "start"], here) as terminal:
        await wait_ready(*[ports.other(port) for port in ("12380", "22380", "32380")])
        assert await do(put_bar, here) == (204, "")
        assert await do(post, here) == (204, "")
        async with open_terminal(shlex.split(serve), here) as joiner:
            await wait_ready(ports.other("42380"))
            assert await do(get, here) == (200, "bar")
            assert await do(delete, here) == (204, "")
            await wait_shown(terminal, r"node 3 was removed from the cluster")
            await wait_shown(terminal, r"raftkv3 exited with code 0$")
            assert await do(get, here) == (200, "bar")
            code, said = await do("raftkv-trio local run start raftkv3", here)
            assert code == 1
            assert said.startswith("raftkv-trio: raftkv3 exited with code 2: ")
            assert "node 3 was removed" in said
            joiner.interrupt()
            assert await joiner.process.wait() == 0
        terminal.interrupt()
        assert await terminal.process.wait() == 1  # for raftkv3, which was started in vain
        assert "Traceback" not in terminal.shown + joiner.shown


async def test_the_same_procfile_under_honcho(procfile: Path, ports: Ports) -> None:
    """honcho starts it unchanged, the nodes serve, and Ctrl-C ends them cleanly.

    goreman reads the same form; it is a program in Go, and no package of it is there to be a dependency.
    """
    async with open_terminal(["honcho", "start"], procfile.parent) as terminal:
        rest_ports = [ports.other(port) for port in ("12380", "22380", "32380")]
        await wait_ready(*rest_ports)
        put, get, *_ = map(ports.replace, commands("walkthrough"))
        assert await do(put, procfile.parent) == (204, "")
        assert await do(get, procfile.parent) == (200, "hello")
        terminal.interrupt()
        assert await terminal.process.wait() == 130  # what honcho makes of it
        for number in (1, 2, 3):  # honcho tells the exit code of its shell, not the node's
            await wait_shown(terminal, rf"node {number} is stopping$")
        assert "Traceback" not in terminal.shown
    async with httpx.AsyncClient() as client:
        assert not any([await is_ready(client, port) for port in rest_ports])


async def test_one_node_alone(tmp_path: Path, ports: Ports) -> None:
    """The README's single node serves, and keeps what it was given over Ctrl-C and a new start."""
    serve, put, get, status = map(ports.replace, commands("one-node"))
    for life in range(2):
        async with open_terminal(shlex.split(serve), tmp_path) as terminal:
            await wait_ready(ports.other("12380"))
            if life == 0:
                assert await do(put, tmp_path) == (204, "")
            assert await do(get, tmp_path) == (200, "hello")
            code, shown = await do(status, tmp_path)
            assert (code, shown.splitlines()[1].split()[:2]) == (0, ["1", "leader"])
            terminal.interrupt()
            assert await terminal.process.wait() == 0
            assert "Traceback" not in terminal.shown
