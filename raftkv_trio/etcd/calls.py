"""What a handler knows of a call beside its request: the metadata, and whom it is from."""

from typing import NamedTuple

from raftkv_trio.access.credentials import Credentials
from raftkv_trio.addresses import host_of
from raftkv_trio.grpc import Code, Metadata, RpcError
from raftkv_trio.grpc.rpc import PEER_ADDRESS, PEER_NAME
from raftkv_trio.kv import MAX_REQUEST_ID_BYTES, Actor


class Call(NamedTuple):
    """A call.

    Attributes:
        metadata: as the client has sent it, with what the connection adds.
        actor: whom it is from; None: nobody is known, or authentication is disabled.
        request_id: the Idempotency-Key of a method that takes one; None: there is none.
    """

    metadata: Metadata
    actor: Actor | None = None
    request_id: bytes | None = None

    def __repr__(self) -> str:
        """Without the metadata, which may have a password or a token."""
        return f"Call(actor={self.actor!r})"

    @property
    def host(self) -> str:
        """That which the client's address counts for."""
        return host_of(self.metadata.get(PEER_ADDRESS, ""))


def credentials_in(metadata: Metadata) -> Credentials:
    """What a call carries that says whom it is from."""
    return Credentials(
        metadata.get("token"),
        metadata.get("authorization"),
        metadata.get(PEER_NAME),
        host_of(metadata.get(PEER_ADDRESS, "")),
    )


def request_id_in(metadata: Metadata) -> bytes | None:
    """The Idempotency-Key of a call; None if it has none. Raises RpcError."""
    value = metadata.get("idempotency-key")
    if value is None:
        return None
    request_id = value.encode()
    if not 1 <= len(request_id) <= MAX_REQUEST_ID_BYTES:
        raise RpcError(
            Code.INVALID_ARGUMENT, f"etcdserver: an Idempotency-Key has 1 to {MAX_REQUEST_ID_BYTES} bytes"
        )
    return request_id
