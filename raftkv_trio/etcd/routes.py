"""The paths of etcd's gateway, and the method that each of them leads to.

As in etcd 3.4: `/v3/maintenance/hash` leads to Hash, so that HashKV has no path.
"""

PREFIX = "/v3/"
#: The prefix of etcd 3.3; everything is there too.
OLD_PREFIX = "/v3beta/"

_KV, _LEASE, _CLUSTER = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Cluster/"
_MAINTENANCE, _AUTH = "/etcdserverpb.Maintenance/", "/etcdserverpb.Auth/"

#: By path after the prefix.
ROUTES: dict[str, str] = {
    "kv/range": _KV + "Range",
    "kv/put": _KV + "Put",
    "kv/deleterange": _KV + "DeleteRange",
    "kv/txn": _KV + "Txn",
    "kv/compaction": _KV + "Compact",
    "watch": "/etcdserverpb.Watch/Watch",
    "lease/grant": _LEASE + "LeaseGrant",
    "lease/revoke": _LEASE + "LeaseRevoke",
    "kv/lease/revoke": _LEASE + "LeaseRevoke",
    "lease/keepalive": _LEASE + "LeaseKeepAlive",
    "lease/timetolive": _LEASE + "LeaseTimeToLive",
    "kv/lease/timetolive": _LEASE + "LeaseTimeToLive",
    "lease/leases": _LEASE + "LeaseLeases",
    "kv/lease/leases": _LEASE + "LeaseLeases",
    "cluster/member/add": _CLUSTER + "MemberAdd",
    "cluster/member/remove": _CLUSTER + "MemberRemove",
    "cluster/member/update": _CLUSTER + "MemberUpdate",
    "cluster/member/list": _CLUSTER + "MemberList",
    "cluster/member/promote": _CLUSTER + "MemberPromote",
    "maintenance/alarm": _MAINTENANCE + "Alarm",
    "maintenance/status": _MAINTENANCE + "Status",
    "maintenance/defragment": _MAINTENANCE + "Defragment",
    "maintenance/hash": _MAINTENANCE + "Hash",
    "maintenance/snapshot": _MAINTENANCE + "Snapshot",
    "maintenance/transfer-leadership": _MAINTENANCE + "MoveLeader",
    "auth/enable": _AUTH + "AuthEnable",
    "auth/disable": _AUTH + "AuthDisable",
    "auth/status": _AUTH + "AuthStatus",
    "auth/authenticate": _AUTH + "Authenticate",
    "auth/user/add": _AUTH + "UserAdd",
    "auth/user/get": _AUTH + "UserGet",
    "auth/user/list": _AUTH + "UserList",
    "auth/user/delete": _AUTH + "UserDelete",
    "auth/user/changepw": _AUTH + "UserChangePassword",
    "auth/user/grant": _AUTH + "UserGrantRole",
    "auth/user/revoke": _AUTH + "UserRevokeRole",
    "auth/role/add": _AUTH + "RoleAdd",
    "auth/role/get": _AUTH + "RoleGet",
    "auth/role/list": _AUTH + "RoleList",
    "auth/role/delete": _AUTH + "RoleDelete",
    "auth/role/grant": _AUTH + "RoleGrantPermission",
    "auth/role/revoke": _AUTH + "RoleRevokePermission",
    "lock/lock": "/v3lockpb.Lock/Lock",
    "lock/unlock": "/v3lockpb.Lock/Unlock",
    "election/campaign": "/v3electionpb.Election/Campaign",
    "election/proclaim": "/v3electionpb.Election/Proclaim",
    "election/leader": "/v3electionpb.Election/Leader",
    "election/observe": "/v3electionpb.Election/Observe",
    "election/resign": "/v3electionpb.Election/Resign",
}
