"""The flags of TLS: of a node, for its two ports, and of the commands that ask one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from raftkv_trio.cli.shared_flags import option
from raftkv_trio.config import TLS_VERSIONS, ClientTls, PeerTls

Command = TypeVar("Command", bound=Callable[..., Any])

_file = partial(option, metavar="FILE", type=click.Path(path_type=Path))
_NODE_FLAGS = (
    _file("--cert-file", help="Certificate of the REST API, in PEM, with those between it and its CA."),
    _file("--key-file", help="Its private key."),
    option("--client-cert-auth", is_flag=True, help="Serve only clients with a certificate of these CAs:"),
    _file("--trusted-ca-file", help="CAs of clients."),
    _file("--client-crl-file", help="Certificates of clients that were revoked."),
    option(
        "--tls-min-version",
        type=click.Choice(TLS_VERSIONS),
        default=TLS_VERSIONS[0],
        help="Lowest version of TLS for clients; between members it is 1.3.",
    ),
    option("--insecure", is_flag=True, help="Let other hosts reach the REST API without TLS."),
    _file("--peer-cert-file", help="Certificate of this node for other members."),
    _file("--peer-key-file", help="Its private key."),
    _file("--peer-trusted-ca-file", help="CAs of all members."),
    _file("--peer-crl-file", help="Certificates of members that were revoked."),
    option(
        "--peer-cert-allowed-san",
        metavar="NAMES",
        default="",
        help="Names, separated by commas, of certificates that may speak for any member.",
    ),
    option(
        "--peer-tls-transition",
        is_flag=True,
        help="Speak with members without TLS too, while the cluster goes over to TLS.",
    ),
)


def tls_flags(command: Command) -> Command:
    """The flags of `serve` for TLS; `take_tls` takes their values."""
    for decorate in reversed(_NODE_FLAGS):
        command = decorate(command)
    return command


def take_tls(values: dict[str, Any]) -> tuple[ClientTls | None, PeerTls | None]:
    """TLS for clients and for members; takes the values of these flags out. Raises ConfigError."""
    names = ("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "client_crl_file")
    clients = {name: values.pop(name) for name in names}
    clients["tls_min_version"] = version = values.pop("tls_min_version")
    peers = {name: values.pop(name) for name in ("peer_cert_file", "peer_key_file", "peer_trusted_ca_file")}
    peers["peer_crl_file"] = values.pop("peer_crl_file")
    allowed = values.pop("peer_cert_allowed_san").split(",")
    peers["peer_cert_allowed_san"] = tuple(name.strip() for name in allowed if name.strip())
    peers["peer_tls_transition"] = values.pop("peer_tls_transition")
    is_versioned = version != TLS_VERSIONS[0]
    return (
        ClientTls(**clients) if is_versioned or any(clients[name] for name in names) else None,
        PeerTls(**peers) if any(peers.values()) else None,
    )
