"""What a command of the log does: it is decoded, who asks is checked, it is run, and has a result.

Whom a command is from says an envelope around it (`auth/codec.py`). Who may not do all that it could has it
refused before any of it is run, and before an answer is told that was remembered for a retry.
"""

from typing import TYPE_CHECKING

from raftkv_trio.errors import UpgradeNeeded
from raftkv_trio.kv.auth.codec import Envelope, decode_envelope, is_version_5
from raftkv_trio.kv.auth.commands import SERVER, Access, ResetAuth
from raftkv_trio.kv.checks import InvalidTxn
from raftkv_trio.kv.codec import check_version, decode_old, decode_request, is_version_3
from raftkv_trio.kv.lease_codec import decode_lease_command, is_version_4
from raftkv_trio.kv.lease_commands import CheckpointLeases, ExpireLeases, RenewLeases, RevokeLease
from raftkv_trio.kv.levels import AUTH_LEVEL, FIRST_LEVEL, LEASES_LEVEL, LEVEL_NOT_REACHED
from raftkv_trio.kv.results import (
    AuthFailed,
    CommandFailed,
    Failed,
    Failure,
    OverQuota,
    QuotaExceeded,
    Rejected,
    Result,
)
from raftkv_trio.kv.txn import Compact, Txn
from raftkv_trio.state_machine import Committed

if TYPE_CHECKING:
    from raftkv_trio.kv.store import Store

#: Of a command that names nobody.
_NOBODY = Envelope(None, (), b"")


def result_of(store: "Store", committed: Committed) -> Result:
    """Run an encoded command on a store, and return what came of it.

    Raises UpgradeNeeded for a command of a newer version.
    """
    command = committed.command
    try:
        if command[1:2] >= b"\3":  # else it can be of no version after 2
            check_version(command)
            if is_version_5(command):
                return _run_version_5(store, command, committed.term)
        elif not store.auth.is_enabled:
            return store.run(decode_old(command))
        return _run(store, command, committed.term, _NOBODY)
    except InvalidTxn as error:
        return Rejected(str(error))
    except QuotaExceeded as error:
        return OverQuota(error.size_bytes, error.quota_bytes)
    except CommandFailed as error:
        return Failed(error.failure)
    except UpgradeNeeded as error:
        # Not a result: on upgraded members this command has an effect, so the states would differ from
        # here on, and nobody would notice.
        what = f"entry {committed.index} holds a command"
        raise UpgradeNeeded(what, error.version, error.known) from error


def _run_version_5(store: "Store", command: bytes, term: int) -> Result:
    if store.level < AUTH_LEVEL:
        raise InvalidTxn(LEVEL_NOT_REACHED)
    envelope = decode_envelope(command)
    if isinstance(envelope.body, bytes):
        return _run(store, envelope.body, term, envelope)
    if not isinstance(envelope.body, ResetAuth):
        store.auth.check_root(envelope.actor)
    elif envelope.actor != SERVER:
        raise AuthFailed(Failure.PERMISSION_DENIED)
    return store.run_auth_command(envelope.body)


def _run(store: "Store", command: bytes, term: int, envelope: Envelope) -> Result:
    """Run a command of a version up to 4, if whoever the envelope names may do that."""
    if is_version_3(command):
        return _run_version_3(store, command, envelope)
    if is_version_4(command):
        return _run_version_4(store, command, term, envelope)
    txn = decode_old(command)
    _check_txn(store, txn, envelope)
    return store.run(txn)


def _check_txn(store: "Store", txn: Txn, envelope: Envelope) -> None:
    if store.auth.is_enabled:
        store.auth.check_txn(envelope.actor, txn, store.leases, envelope.reads)


def _run_version_3(store: "Store", command: bytes, envelope: Envelope) -> Result:
    if store.level == FIRST_LEVEL:
        raise InvalidTxn(LEVEL_NOT_REACHED)
    decoded, request = decode_request(command)
    if isinstance(decoded, Compact):
        if envelope.actor != SERVER:
            store.auth.check_all_keys(envelope.actor, Access.WRITE)
        return store.compact(decoded.revision)
    # Before anything that was run before is told: it may have been for somebody else.
    _check_txn(store, decoded, envelope)
    if request is None:
        return store.run(decoded)
    if envelope.actor is not None:
        request = request.of_user(envelope.actor.user)
    answer = store.requests.answer(request, decoded)
    if answer is not None:
        return answer
    result = store.run(decoded)
    store.requests.remember(request, decoded, result)
    return result


def _run_version_4(store: "Store", command: bytes, term: int, envelope: Envelope) -> Result:
    if store.level < LEASES_LEVEL:
        raise InvalidTxn(LEVEL_NOT_REACHED)
    decoded = decode_lease_command(command)
    match decoded:
        case RevokeLease(lease_id):
            store.auth.check_revoke(envelope.actor, lease_id, store.leases)
        case ExpireLeases() | CheckpointLeases() | RenewLeases():
            pass  # only a leader proposes the first two, and whoever lets renew leases checks the caller
        case _:
            store.auth.check_user(envelope.actor)
    return store.run_lease_command(decoded, term)
