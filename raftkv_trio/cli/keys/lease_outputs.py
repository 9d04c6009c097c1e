"""Answers about leases in the formats of etcdctl 3.4, byte for byte; tables are as simple text."""

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftkv_trio.schema import rpc_pb2

    LeaseAnswer = (
        rpc_pb2.LeaseGrantResponse
        | rpc_pb2.LeaseRevokeResponse
        | rpc_pb2.LeaseTimeToLiveResponse
        | rpc_pb2.LeaseLeasesResponse
        | rpc_pb2.LeaseKeepAliveResponse
    )


def lease_text(answer: "LeaseAnswer", write_out: str, *, lease_id: int = 0, keys: bool = False) -> bytes:
    """An answer.

    Args:
        lease_id: that was asked for, which the answer need not have.
        keys: whether keys were asked for.
    """
    if write_out == "json":
        return json.dumps(_values(answer), separators=(",", ":")).encode() + b"\n"
    if write_out == "fields":
        return b"".join(b'"%b" : %b\n' % (name.encode(), value) for name, value in _fields(answer))
    return _simple(answer, lease_id, keys) + b"\n"


def _simple(answer: Any, lease_id: int, keys: bool) -> bytes:
    match type(answer).__name__:
        case "LeaseGrantResponse":
            return b"lease %016x granted with TTL(%ds)" % (answer.ID, answer.TTL)
        case "LeaseRevokeResponse":
            return b"lease %016x revoked" % lease_id
        case "LeaseKeepAliveResponse" if answer.TTL <= 0:
            return b"lease %016x expired or revoked." % lease_id
        case "LeaseKeepAliveResponse":
            return b"lease %016x keepalived with TTL(%d)" % (answer.ID, answer.TTL)
        case "LeaseLeasesResponse":
            ids = [b"%016x" % each.ID for each in answer.leases]
            return b"\n".join([b"found %d leases" % len(ids), *ids])
        case _ if answer.TTL < 0:
            return b"lease %016x already expired" % answer.ID
        case _:
            left = answer.ID, answer.grantedTTL, answer.TTL
            text = b"lease %016x granted with TTL(%ds), remaining(%ds)" % left
            return text + b", attached keys([%b])" % b" ".join(answer.keys) if keys else text


def _header(answer: Any) -> dict[str, int]:
    header = answer.header
    values = {
        "cluster_id": header.cluster_id,
        "member_id": header.member_id,
        "revision": header.revision,
        "raft_term": header.raft_term,
    }
    return {name: value for name, value in values.items() if value}


def _values(answer: Any) -> dict[str, Any]:
    """As Go's client has it: its own types put the header's fields beside the others."""
    header = _header(answer)
    match type(answer).__name__:
        case "LeaseGrantResponse":
            return {**header, "ID": answer.ID, "TTL": answer.TTL, "Error": answer.error}
        case "LeaseRevokeResponse":
            return {"header": header}
        case "LeaseKeepAliveResponse":
            return {**header, "ID": answer.ID, "TTL": answer.TTL}
        case "LeaseLeasesResponse":
            return {**header, "leases": [{"id": each.ID} for each in answer.leases]}
        case _:
            return {
                **header,
                "id": answer.ID,
                "ttl": answer.TTL,
                "granted-ttl": answer.grantedTTL,
                "keys": [base64.b64encode(key).decode() for key in answer.keys] or None,
            }


def _fields(answer: Any) -> list[tuple[str, bytes]]:
    from raftkv_trio.cli.keys.outputs import quoted

    header = answer.header
    fields = [
        ("ClusterID", b"%d" % header.cluster_id),
        ("MemberID", b"%d" % header.member_id),
        ("Revision", b"%d" % header.revision),
        ("RaftTerm", b"%d" % header.raft_term),
    ]
    match type(answer).__name__:
        case "LeaseGrantResponse" | "LeaseKeepAliveResponse":
            fields += [("ID", b"%d" % answer.ID), ("TTL", b"%d" % answer.TTL)]
        case "LeaseLeasesResponse":
            fields += [("ID", b"%d" % each.ID) for each in answer.leases]
        case "LeaseTimeToLiveResponse":
            fields += [("ID", b"%d" % answer.ID), ("TTL", b"%d" % answer.TTL)]
            fields += [("GrantedTTL", b"%d" % answer.grantedTTL)]
            fields += [("Key", quoted(key)) for key in answer.keys]
    return fields
