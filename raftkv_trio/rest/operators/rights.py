"""Who may ask for what under `/-/` while authentication is enabled: the one table of it.

What is not in the table needs the role root.
"""

from enum import Enum, auto

from quart import g, request
from quart_trio import QuartTrio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.rest.callers import Callers
from raftkv_trio.rest.operators.documents import head_fields
from raftkv_trio.tcp_stream import Peer


class Need(Enum):
    """What a request needs while authentication is enabled."""

    NOTHING = auto()
    USER = auto()
    #: The role root, as far as this node knows the users: what is asked for concerns this node.
    ROOT = auto()
    #: The role root, as of the newest users: what is asked for concerns the cluster, or all of its keys.
    ROOT_OF_CLUSTER = auto()
    #: The same on the leader; another node does nothing for anybody.
    ROOT_OF_LEADER = auto()


#: By method and route; GET stands for HEAD too.
NEEDS = {
    ("GET", "/-/healthy"): Need.NOTHING,
    ("GET", "/-/ready"): Need.NOTHING,
    ("GET", "/-/metrics"): Need.NOTHING,
    ("GET", "/-/status"): Need.NOTHING,
    ("GET", "/-/members"): Need.USER,
    ("POST", "/-/members"): Need.ROOT_OF_CLUSTER,
    ("PUT", "/-/members/<member_id>"): Need.ROOT_OF_CLUSTER,
    ("DELETE", "/-/members/<member_id>"): Need.ROOT_OF_CLUSTER,
    ("POST", "/-/members/<member_id>/promote"): Need.ROOT_OF_CLUSTER,
    ("POST", "/-/leader"): Need.ROOT_OF_LEADER,
    ("GET", "/-/backup"): Need.ROOT_OF_CLUSTER,
}


def add_rights(app: QuartTrio, replicated: ReplicatedStore, callers: Callers) -> None:
    """Have `app` look at who asks before it answers."""

    @app.before_request
    async def look_who_asks() -> None:
        if request.url_rule is None or request.method == "OPTIONS":
            return
        method = "GET" if request.method == "HEAD" else request.method
        need = NEEDS.get((method, request.url_rule.rule), Need.ROOT)
        if need is Need.NOTHING:
            return
        if need is Need.ROOT_OF_CLUSTER or (need is Need.ROOT_OF_LEADER and replicated.node.is_leader):
            await callers.wait_newest()
        peer = request.scope["state"].get("peer", Peer())
        actor = await callers.actor_of(head_fields(), peer)

        async def check_asker() -> None:
            # It may have begun to lead since the head has come, and not know the newest users yet.
            if need is Need.ROOT_OF_LEADER and replicated.node.is_leader:
                await callers.wait_newest()
            await replicated.node.wait_restored()
            auth = replicated.store.auth
            (auth.check_user if need is Need.USER else auth.check_root)(actor)

        await check_asker()
        g.check_asker = check_asker
