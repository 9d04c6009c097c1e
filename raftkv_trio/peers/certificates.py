"""What follows from the certificate that the other end of a connection has shown, if there is TLS.

A certificate is for a node if it names it, or the host in the URL at which the cluster knows it
(`tls/names.py`). So the word of a node about itself, its id and its URL, proves nothing: the URL counts that
the members have agreed on. Only of a node that is no member, and so has no such URL, its own word counts; it
is told nothing, and believed nothing, until it is a member.
"""

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.tls.names import is_named
from raftkv_trio.tls.network import PeerStream


class ShownCertificate:
    """The certificate on one connection, after something was received on it.

    Args:
        stream: the connection. Without TLS there is no certificate, and no objection.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream if isinstance(stream, PeerStream) else None
        self._names = None if self._stream is None else self._stream.names()

    def objection(
        self,
        node_id: int,
        cluster_id: int | None,
        envelope: Envelope | None,
        announced_url: str | None = None,
    ) -> str | None:
        """Why the other end is not this node; None if it may be.

        Args:
            cluster_id: of the node; None if it is not known yet.
            envelope: the members; None if they are not known yet.
            announced_url: where the node says that it listens.
        """
        if self._stream is None or self._names is None:
            return None
        member = None if envelope is None else envelope.members.get(node_id)
        if member is not None:
            hosts = [member.address.host]
        elif self._stream.dialled_host is not None:
            hosts = [self._stream.dialled_host]
        else:
            hosts = [] if announced_url is None else _host_of(announced_url)
        return self._stream.check.objection(self._names, cluster_id, node_id, hosts)

    def objection_to_joiner(self, node_id: int, cluster_id: int, envelope: Envelope) -> str | None:
        """Why the other end may not ask which cluster this is, under this id; None if it may.

        It has not said where it listens. If its certificate names no node, it may be of any.
        """
        if self._names is not None and not self._names.nodes and node_id not in envelope.members:
            return None
        return self.objection(node_id, cluster_id, envelope)

    def names(self, node_id: int, cluster_id: int) -> bool:
        """Whether it names this node of this cluster, so that its CA says that this is that node."""
        return self._names is not None and is_named(self._names, cluster_id, node_id)


def _host_of(url: str) -> list[str]:
    try:
        return [PeerAddress.parse(url).host]
    except ConfigError:
        return []
