"""Answers about users and roles in the formats of etcdctl 3.4, byte for byte.

Where etcdctl has none, they are like the others: tables are simple text, and `user get` and `user list` have
fields too.
"""

from collections.abc import Iterator
from typing import Any

from raftkv_trio.cli.keys.outputs import as_json, quoted
from raftkv_trio.kv import TO_THE_LAST, prefix_end
from raftkv_trio.schema import auth_pb2, rpc_pb2

_READS = (auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE)
_WRITES = (auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE)


def auth_text(answer: Any, write_out: str, simple: bytes) -> bytes:
    """An answer.

    Args:
        simple: it as simple text, without the end of its last line.
    """
    if write_out == "json":
        return as_json(answer)
    if write_out == "fields":
        return b"".join(line + b"\n" for line in _fields(answer))
    return simple + b"\n" if simple else b""


def lines(names: Any) -> bytes:
    """Names as simple text."""
    return "\n".join(names).encode()


def user_text(name: str, answer: rpc_pb2.AuthUserGetResponse) -> bytes:
    """A user as simple text."""
    return f"User: {name}\nRoles:{''.join(f' {role}' for role in answer.roles)}".encode()


def role_text(role: str, answer: rpc_pb2.AuthRoleGetResponse) -> bytes:
    """A role and its permissions as simple text."""
    text = [b"Role %b" % role.encode()]
    for title, kinds in ((b"KV Read:", _READS), (b"KV Write:", _WRITES)):
        text += [title, *(b"\t" + _range_text(each) for each in answer.perm if each.permType in kinds)]
    return b"\n".join(text)


def revoked_text(role: str, key: bytes, range_end: bytes) -> bytes:
    """What `role revoke-permission` says."""
    if not range_end:
        what = b"key %b" % key
    elif range_end == TO_THE_LAST:
        what = b"range [%b, <open ended>" % key
    else:
        what = b"range [%b, %b)" % (key, range_end)
    return b"Permission of %b is revoked from role %b" % (what, role.encode())


def _range_text(permission: auth_pb2.Permission) -> bytes:
    key, end = permission.key, permission.range_end
    if not end:
        return key
    text = b"[%b, <open ended>" % key if end == TO_THE_LAST else b"[%b, %b)" % (key, end)
    return text + b" (prefix %b)" % key if prefix_end(key) == end else text


def _fields(answer: Any) -> Iterator[bytes]:
    header = answer.header
    yield b'"ClusterID" : %d' % header.cluster_id
    yield b'"MemberID" : %d' % header.member_id
    yield b'"Revision" : %d' % header.revision
    yield b'"RaftTerm" : %d' % header.raft_term
    match answer:
        case rpc_pb2.AuthRoleGetResponse():
            for each in answer.perm:
                yield b'"PermType" :  %b' % auth_pb2.Permission.Type.Name(each.permType).encode()
                yield b'"Key" : %b' % quoted(each.key)
                yield b'"RangeEnd" : %b' % quoted(each.range_end)
        case rpc_pb2.AuthRoleListResponse() | rpc_pb2.AuthUserGetResponse():
            yield b'"Roles" :%b' % _quoted_names(answer.roles)
        case rpc_pb2.AuthUserListResponse():
            yield b'"Users" :%b' % _quoted_names(answer.users)
        case rpc_pb2.AuthStatusResponse():
            yield b'"Enabled" : %b' % (b"true" if answer.enabled else b"false")
            yield b'"AuthRevision" : %d' % answer.authRevision


def _quoted_names(names: Any) -> bytes:
    return b"".join(b" " + quoted(name.encode()) for name in names)
