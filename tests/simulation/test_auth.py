"""Users of a simulated cluster: while it is upgraded, over restarts, and on a member that was left behind."""

from raftkv_trio.kv import (
    ROOT,
    Actor,
    AddUser,
    AuthChanged,
    AuthCommand,
    DisableAuth,
    EnableAuth,
    Failed,
    Failure,
    GrantRole,
    Put,
    Rejected,
    Store,
    Txn,
    TxnResult,
    encode_command,
)
from raftkv_trio.payload.levels import AUTH, LEASES
from tests.simulation.test_feature_levels import WITHIN_S, Mixed

BEGIN: list[AuthCommand] = [AddUser(ROOT, b"record"), GrantRole(ROOT, ROOT), EnableAuth()]
PUT = Txn(success=(Put(b"key", b"value"),))


class Users(Mixed):
    """A cluster of stores, and what is asked of it."""

    def ask(self, command: AuthCommand | Txn, actor: Actor | None) -> object:
        return self.simulation.propose(encode_command(command, actor), within_s=WITHIN_S)

    def put(self, count: int, actor: Actor | None) -> None:
        for _ in range(count):
            assert isinstance(self.ask(PUT, actor), TxnResult)

    def stores(self) -> list[Store]:
        """Those of all members, which must be equal."""
        found = [self.simulation.machine(node_id, within_s=WITHIN_S) for node_id in (1, 2, 3)]
        stores = [store for store in found if isinstance(store, Store)]
        assert len({store.state_hash for store in stores}) == 1
        assert len(stores) == 3
        return stores

    def restart(self, node_id: int) -> None:
        self.simulation.crash(node_id)
        self.simulation.start(node_id)


def upgraded(seed: int) -> Users:
    users = Users(seed, Store)
    for node_id in (1, 2, 3):
        users.replace(node_id, AUTH)
    users.wait_level(AUTH)
    return users


def test_a_cluster_has_users_when_all_its_members_know_them() -> None:
    """Before that, commands about users, and such as name an actor, are rejected on all members."""
    users = Users(1, Store)
    for node_id in (1, 2, 3):
        users.replace(node_id, LEASES)
    users.wait_level(LEASES)
    root = Actor(ROOT, 3)
    for node_id in (1, 2, 3):
        for command, actor in ((BEGIN[0], None), (PUT, root)):
            assert isinstance(users.ask(command, actor), Rejected)
        users.replace(node_id, AUTH)
        users.write_keys(5)
    users.wait_level(AUTH)
    for command in BEGIN:
        assert isinstance(users.ask(command, None), AuthChanged)
    assert users.ask(PUT, None) == Failed(Failure.USER_EMPTY)
    assert isinstance(users.ask(PUT, root), TxnResult)
    assert [store.auth.is_enabled for store in users.stores()] == [True] * 3


def test_users_stay_whatever_crashes() -> None:
    """From the log and from snapshots; and a member that lags takes them from the snapshot of another."""
    users = upgraded(2)
    for command in BEGIN[:2]:
        users.ask(command, None)
    users.simulation.crash(3)
    users.ask(BEGIN[2], None)
    root = Actor(ROOT, 3)
    for node_id in (1, 2):  # from the log
        users.restart(node_id)
        assert users.ask(PUT, None) == Failed(Failure.USER_EMPTY)
    users.put(60, root)  # which the snapshots do not keep
    for node_id in (1, 2):
        users.restart(node_id)
        assert users.ask(PUT, None) == Failed(Failure.USER_EMPTY)
        users.put(1, root)
    users.simulation.start(3)
    assert [store.auth.is_enabled for store in users.stores()] == [True] * 3
    users.simulation.crash(1)
    users.ask(DisableAuth(), root)
    users.put(60, None)
    users.simulation.start(1)
    auths = [store.auth for store in users.stores()]
    assert [(auth.is_enabled, auth.revision, list(auth.users)) for auth in auths] == [(False, 4, [ROOT])] * 3
