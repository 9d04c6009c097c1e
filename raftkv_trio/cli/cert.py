"""`raftkv-trio cert`: a CA for the cluster, and certificates for its nodes and clients."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from raftkv_trio.addresses import cluster_id_of, is_wildcard, parse_cluster, parse_node_id
from raftkv_trio.cli.shared_flags import option
from raftkv_trio.config import DEFAULT_CLUSTER
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable

if TYPE_CHECKING:
    from raftkv_trio.certificates.authority import Authority, Issued

#: Under which nodes on this machine are reached.
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
_CLIENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")  # 64: the longest common name, RFC 5280

_directory_option = click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("certs"),
    show_default=True,
    allow_from_autoenv=False,
    help="Directory of the CA and of what it issues.",
)
_force_option = click.option(
    "--force", is_flag=True, allow_from_autoenv=False, help="Replace files that exist."
)


def _cluster_id_option(default: str) -> Callable[..., Any]:
    return click.option(
        "--cluster-id",
        metavar="HEX",
        allow_from_autoenv=False,
        help=f"Id of the cluster, as `status -w json` shows it.  [default: {default}]",
    )


@click.group(no_args_is_help=False)
def cert() -> None:
    """Make certificates for a cluster.

    A CA of the cluster's own issues them: `init` makes it, `node` and `client` use it, and `revoke` takes
    back. They need the package cryptography: pip install cryptography.
    """


@cert.command("init", context_settings=_CONTEXT)
@_directory_option
@option(
    "--cluster",
    metavar="URLS",
    default=DEFAULT_CLUSTER,
    help="Peer URLs of the cluster's first members, as for `serve`.",
)
@option("--cluster-token", metavar="TEXT", default="", help="As for `serve`.")
@_cluster_id_option("what --cluster and --cluster-token make")
@_force_option
def cert_init(directory: Path, cluster: str, cluster_token: str, cluster_id: str | None, force: bool) -> int:
    """Make the CA of a cluster.

    It writes DIR/ca.crt, which nodes and clients trust, and DIR/ca.key, which signs their certificates: no
    node needs that, so keep it where you run this command. The CA is valid for ten years.

    For a cluster that runs already, give --cluster-id: its members may have changed since it was new, or it
    was restored from a backup, and its id remains.
    """
    _require_cryptography()
    from raftkv_trio.certificates.authority import make_authority
    from raftkv_trio.certificates.files import AUTHORITY

    if cluster_id is None:
        number = cluster_id_of(parse_cluster(cluster), cluster_token)
    elif click.get_current_context().get_parameter_source("cluster") is ParameterSource.COMMANDLINE:
        raise ConfigError("--cluster and --cluster-id both say which cluster; give one of them")
    else:
        number = _parse_cluster_id(cluster_id)
    _make(directory)
    issued = make_authority(number, datetime.now(UTC))
    _write(directory, AUTHORITY, issued, force, f"CA of cluster {number:x}")
    return 0


@cert.command("node")
@_directory_option
@_cluster_id_option("that of the CA")
@_force_option
@click.argument("id_text", metavar="ID")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
def cert_node(
    directory: Path, cluster_id: str | None, force: bool, id_text: str, hosts: tuple[str, ...]
) -> int:
    """Make the certificate of a node.

    It writes DIR/node-ID.crt and DIR/node-ID.key. The certificate says which node of which cluster it is for,
    and is valid for a year. HOSTs are all names and IP addresses under which members and clients reach the
    node: those of its peer URL and of its REST API, and `localhost` if it is asked on its own machine.
    """
    node_id = parse_node_id(id_text)
    authority = _read_authority(directory)
    number = authority.cluster_id if cluster_id is None else _parse_cluster_id(cluster_id)
    if number is None:
        raise ConfigError(f"the CA in {directory} does not say for which cluster it is; give --cluster-id")
    issued = authority.issue_to_node(number, node_id, hosts, datetime.now(UTC))
    _write(directory, f"node-{node_id}", issued, force, f"node {node_id} of cluster {number:x}")
    return 0


@cert.command("client")
@_directory_option
@_force_option
@click.argument("name", metavar="NAME")
def cert_client(directory: Path, force: bool, name: str) -> int:
    """Make the certificate of a client.

    It writes DIR/client-NAME.crt and DIR/client-NAME.key. The certificate is valid for a year, and no node
    takes it for that of a member.
    """
    if not _CLIENT_NAME.fullmatch(name):
        raise ConfigError(
            f"client name '{printable(name)}' is not 1 to 64 letters, digits and _ . @ -, with none of the"
            " last three at its beginning"
        )
    issued = _read_authority(directory).issue_to_client(name, datetime.now(UTC))
    _write(directory, f"client-{name}", issued, force, f"client {name}")
    return 0


@cert.command("revoke")
@_directory_option
@click.argument("names", metavar="NAME...", nargs=-1)
def cert_revoke(directory: Path, names: tuple[str, ...]) -> int:
    """Revoke certificates of nodes or clients.

    NAME is that of the files: node-2 for DIR/node-2.crt. It writes DIR/ca.crl, with what was revoked before
    too. Nodes that have this file as --peer-crl-file, or --client-crl-file, refuse these certificates as soon
    as it is replaced there. Revoke a certificate before you replace it. Without a NAME the file is only
    written, so that nodes can have it from the beginning.
    """
    if wrong := [name for name in names if not _CLIENT_NAME.fullmatch(name)]:
        raise ConfigError(
            f"'{printable(wrong[0])}' is no name of a certificate, such as node-2 or client-alice"
        )
    authority = _read_authority(directory)
    from raftkv_trio.certificates.revocation import revoke

    file, count = revoke(directory, authority, names, datetime.now(UTC))
    click.echo(f"{file}: {count} revoked; give it to all nodes")
    return 0


@cert.command("local")
@click.option(
    "-f",
    "--procfile",
    type=click.Path(path_type=Path),
    default=Path("Procfile.tls"),
    show_default=True,
    help="The Procfile whose nodes get certificates.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory of the certificates.  [default: certs beside the Procfile]",
)
@_force_option
def cert_local(procfile: Path, directory: Path | None, force: bool) -> int:
    """Make all certificates of a cluster on this machine.

    For the nodes of a Procfile it does what `init` and `node` do, and `client` for a client named local.
    """
    _require_cryptography()
    from raftkv_trio.certificates.authority import Authority, make_authority
    from raftkv_trio.certificates.files import AUTHORITY, check_free
    from raftkv_trio.local.procfile import cluster_of_nodes, read_procfile

    members, token = cluster_of_nodes(read_procfile(procfile))
    number, now = cluster_id_of(members, token), datetime.now(UTC)
    directory = directory or procfile.parent / "certs"
    _make(directory)
    names = [AUTHORITY, *(f"node-{node_id}" for node_id in members), "client-local"]
    check_free(directory, names, force=force)  # all of them, before the first one is written
    own = make_authority(number, now)
    authority = Authority.load(own.certificate, own.key, called="the CA", key_called="its key")
    _write(directory, AUTHORITY, own, force, f"CA of cluster {number:x}")
    for node_id, address in members.items():
        hosts = () if is_wildcard(address.host) else (address.host,)
        issued = authority.issue_to_node(number, node_id, (*hosts, *LOCAL_HOSTS), now)
        _write(directory, f"node-{node_id}", issued, force, f"node {node_id} of cluster {number:x}")
    _write(directory, "client-local", authority.issue_to_client("local", now), force, "client local")
    return 0


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--dir {directory} cannot be made: {error.strerror or error}") from error


def _parse_cluster_id(text: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", text):
        raise ConfigError(
            f"--cluster-id '{printable(text)}' is not an id as `raftkv-trio status -w json` shows it"
        )
    return int(text, 16)


def _require_cryptography() -> None:
    try:
        import raftkv_trio.certificates.authority  # noqa: F401 - what needs it
    except ImportError as error:
        raise ConfigError(
            f"`raftkv-trio cert` needs the package cryptography ({error}); install it with"
            " `pip install cryptography`"
        ) from error


def _read_authority(directory: Path) -> "Authority":
    _require_cryptography()
    from raftkv_trio.certificates.files import read_authority

    return read_authority(directory)


def _write(directory: Path, name: str, issued: "Issued", force: bool, what: str) -> None:
    from raftkv_trio.certificates.files import write_issued

    certificate, key = write_issued(directory, name, issued, force=force)
    click.echo(f"{certificate}, {key}: {what}, valid until {issued.not_after:%Y-%m-%d}")
