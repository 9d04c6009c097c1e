"""A server of raftkv-trio behind those flags of etcd that its end-to-end tests use.

    python -m tests.etcd.e2e.as_etcd FLAGS

As etcd does, it says on standard output when it serves, and it ends with the signals that end the server.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

#: The REST port is so far from the port of etcd's clients, which the tests choose.
REST_OFFSET = 1000
#: What the tests wait for, of etcd 3.4.
READY = ("published {{Name:{name}}}", "enabled capabilities for version 3.4")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def read_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Names and values; that of a flag without a value is empty."""
    flags: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        name, has_value, value = waiting.pop(0).lstrip("-").partition("=")
        if not has_value and waiting and not waiting[0].startswith("-"):
            value = waiting.pop(0)
        flags[name] = value
    return flags


def arguments_of(flags: Mapping[str, str], fixtures: Path) -> list[str]:
    """What `raftkv-trio serve` is told for the same.

    Args:
        fixtures: has the certificate that stands for one which etcd would make for itself.
    """
    client_url = urlsplit(flags["listen-client-urls"].partition(",")[0])
    assert client_url.port is not None
    names, peers = [], []
    has_peer_tls = "peer-cert-file" in flags
    for pair in flags["initial-cluster"].split(","):
        name, _, url = pair.partition("=")
        names.append(name)
        peers.append(f"{'https' if has_peer_tls else 'http'}://{urlsplit(url).netloc}")
    arguments = [
        *("--id", str(names.index(flags["name"]) + 1), "--cluster", ",".join(peers), "--host", "localhost"),
        *("--port", str(client_url.port + REST_OFFSET), "--etcd-port", str(client_url.port)),
        *("--data-dir", flags["data-dir"], "--cluster-token", flags.get("initial-cluster-token", "")),
        *("--snapshot-entries", flags.get("snapshot-count", "10000")),
    ]
    if client_url.scheme == "https" and "auto-tls" in flags:
        arguments += [
            "--cert-file",
            f"{fixtures}/server.crt",
            "--key-file",
            f"{fixtures}/server.key.insecure",
        ]
    elif client_url.scheme == "https":
        arguments += _same(flags, "cert-file", "key-file")
        if "client-cert-auth" in flags:
            arguments += ["--client-cert-auth", *_same(flags, "trusted-ca-file", "client-crl-file")]
    if "quota-backend-bytes" in flags:
        arguments += ["--quota-bytes", flags["quota-backend-bytes"]]
    if has_peer_tls:
        arguments += _same(flags, "peer-cert-file", "peer-key-file", "peer-trusted-ca-file")
        arguments += ["--peer-cert-allowed-san", "localhost"]
    for option in flags.get("auth-token", "").split(","):
        if option.startswith("ttl="):
            arguments += ["--auth-token-ttl", option.removeprefix("ttl=").removesuffix("s")]
    return arguments


def _same(flags: Mapping[str, str], *names: str) -> list[str]:
    return [part for name in names if name in flags for part in (f"--{name}", flags[name])]


def is_ready(flags: Mapping[str, str]) -> bool:
    """Whether the server knows a leader."""
    url = urlsplit(flags["listen-client-urls"].partition(",")[0])
    assert url.port is not None
    certificate = (flags["cert-file"], flags["key-file"]) if "client-cert-auth" in flags else None
    try:
        with httpx.Client(verify=False, cert=certificate) as client:
            ready = f"{url.scheme}://localhost:{url.port + REST_OFFSET}/-/ready"
            return client.get(ready).status_code == 200
    except httpx.TransportError:
        return False


def _end_with(parent: int) -> None:
    """The tests kill servers by SIGKILL, of which only the parent hears."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> int:
    """Run the server to its end; returns its exit code."""
    flags, parent = read_flags(sys.argv[1:]), os.getpid()
    fixtures = Path("../../integration/fixtures").absolute()
    command = [sys.executable, "-m", "raftkv_trio", "serve", *arguments_of(flags, fixtures)]
    with subprocess.Popen(command, preexec_fn=lambda: _end_with(parent)) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: server.send_signal(number))
        while server.poll() is None and not is_ready(flags):
            time.sleep(0.05)
        if server.poll() is None:
            for line in READY:
                print(line.format(name=flags["name"]), flush=True)
        code = server.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
