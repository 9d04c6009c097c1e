"""The Procfile: lines of the form `name: command`, as foreman, goreman and honcho read them."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from raftkv_trio.addresses import ClientAddress, PeerAddress, is_wildcard, parse_cluster
from raftkv_trio.config import DEFAULT_CLUSTER, RestConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.tls.clients import Trust

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*([^\0]+)")


def parse_procfile(text: str) -> dict[str, str]:
    """Shell commands by process name, in the file's order; blank lines and `#` comments are skipped.

    Raises ConfigError for any other line, a repeated name, or a file without processes. goreman and honcho
    ignore malformed lines; then a process is missing without any message.
    """
    commands: dict[str, str] = {}
    for number, raw_line in enumerate(text.split("\n"), start=1):
        line = raw_line.strip()
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise ConfigError(f"line {number} of the Procfile is not of the form name: command")
        name, command = parts.groups()
        if name in commands:
            raise ConfigError(f"line {number} of the Procfile names {name} a second time")
        commands[name] = command
    if not commands:
        raise ConfigError("the Procfile names no process")
    return commands


def read_procfile(procfile: Path) -> dict[str, str]:
    """The processes of a file, as `parse_procfile`. Raises ConfigError, also if the file cannot be read."""
    try:
        text = procfile.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a BOM
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {procfile}: {reason}; name another with `procfile`") from error
    return parse_procfile(text)


def is_node(command: str) -> bool:
    """Whether the command runs `raftkv-trio serve`, which tells when it is ready."""
    return re.search(r"\braftkv[-_]trio\s+serve\b", command) is not None


def client_addresses(commands: Mapping[str, str]) -> dict[str, ClientAddress]:
    """Where clients reach each node, by process name, as far as the flags of its command tell.

    A command whose flags cannot be read here is left out: the shell, or `serve`, says what is wrong with it.
    """
    addresses = {}
    for name, command in commands.items():
        try:
            if is_node(command):
                addresses[name] = _client_address(shlex.split(command))
        except (ValueError, ConfigError):
            continue
    return addresses


def etcd_addresses(commands: Mapping[str, str]) -> dict[str, ClientAddress]:
    """Where each node serves etcd's API, by process name, as far as the flags of its command tell."""
    addresses = {}
    for name, command in commands.items():
        try:
            if is_node(command) and "--etcd-port" in (flags := _flags(shlex.split(command))):
                addresses[name] = _own_address(flags, flags["--etcd-port"])
        except (ValueError, ConfigError):
            continue
    return addresses


def cluster_of_nodes(commands: Mapping[str, str]) -> tuple[Mapping[int, PeerAddress], str]:
    """The members and the token of the new cluster that these nodes make, as the flags of one tell.

    Raises ConfigError: there is no node, or its flags cannot be read.
    """
    for name, command in commands.items():
        if is_node(command):
            try:
                flags = _flags(shlex.split(command))
            except ValueError as error:
                raise ConfigError(f"the command of {name} cannot be read: {error}") from error
            return parse_cluster(flags.get("--cluster", DEFAULT_CLUSTER)), flags.get("--cluster-token", "")
    raise ConfigError("the Procfile runs no node; name another with `procfile`")


def trust_of_nodes(commands: Mapping[str, str], directory: Path) -> Trust:
    """Whom a client of these nodes trusts that runs where they do, and with what it shows: their own files.

    The CA of members is taken for that of servers, and the certificate of the first node for a client's.

    Args:
        directory: in which the nodes run.
    """
    for command in commands.values():
        try:
            flags = _flags(shlex.split(command)) if is_node(command) else {}
        except ValueError:
            continue
        if "--cert-file" in flags:
            ca_file = flags.get("--trusted-ca-file", flags.get("--peer-trusted-ca-file"))
            has_pair = "--key-file" in flags
            return Trust(
                ca_file=None if ca_file is None else directory / ca_file,
                client_cert_file=directory / flags["--cert-file"] if has_pair else None,
                client_key_file=directory / flags["--key-file"] if has_pair else None,
            )
    return Trust()


def curl_command(url: str, trust: Trust) -> str:
    """How to ask a server with curl, up to the path."""
    words = ["curl"]
    if url.startswith("https://") and trust.ca_file is not None:
        words += ["--cacert", shlex.quote(str(trust.ca_file))]
    return " ".join([*words, url])


def _flags(words: list[str]) -> dict[str, str]:
    flags = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        flags[flag] = value if equals else following
    return flags


def _client_address(words: list[str]) -> ClientAddress:
    flags = _flags(words)
    if "--advertise-client" in flags:
        return ClientAddress.parse(flags["--advertise-client"], needs_scheme=False)
    return _own_address(flags, flags.get("--port", str(RestConfig().port)))


def _own_address(flags: Mapping[str, str], port: str) -> ClientAddress:
    """Where a node of this machine is reached at one of its ports for clients."""
    host = flags.get("--host", RestConfig().host).strip("[]")
    dialled = RestConfig().host if is_wildcard(host) else host
    address = ClientAddress(dialled, int(port), is_tls="--cert-file" in flags)
    return ClientAddress.parse(address.url)  # which refuses what cannot be dialled


def check_names(names: Iterable[str], commands: Iterable[str]) -> list[str]:
    """Each of `names` once, or all names of the Procfile if `names` is empty.

    Raises ConfigError for a name that is not in the Procfile.
    """
    known = list(commands)
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no process is named {name!r}; the Procfile names {', '.join(known)}")
    return wanted or known
