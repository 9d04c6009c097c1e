"""Histories of the real store: random clients of it in one process, whose answers may get lost on the way."""

from dataclasses import dataclass
from random import Random

from raftkv_trio.kv import Store
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing.campaign.kv_requests import answer_of, command_of, read
from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.campaign.requests import Asking
from raftkv_trio.testing.histories.history import History
from raftkv_trio.testing.histories.revision_order import StoreHistory, StoreOperationRecord
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreRequest,
    StoreStaleRead,
    may_change,
)


@dataclass
class _Client:
    name: str
    asking: Asking
    operation: StoreOperationRecord | None = None
    answer: StoreAnswer | None = None


def random_store_history(
    rng: Random, *, operations: int, clients: int = 5, lost_share: float = 0.1
) -> StoreHistory:
    """`operations` operations of concurrent clients; of `lost_share` of them the outcome is unknown.

    A lost one may have been applied, may be applied at any later time, or never is.
    """
    history: StoreHistory = History()
    store = Store()
    schedule = LEVELS[1].draw(rng.randrange(1000))
    everyone = [
        _Client(f"client {number}", Asking(b"%d" % number, schedule, rng)) for number in range(clients)
    ]
    late: list[StoreRequest] = []
    while len(history) < operations or any(client.operation for client in everyone):
        if late and rng.random() < 0.05:
            _execute(store, late.pop(rng.randrange(len(late))))
        client = rng.choice(everyone)
        if client.operation is None:
            if len(history) < operations:
                client.operation = history.invoke(client.name, None, client.asking.draw())
                client.answer = None
        elif client.answer is not None:
            history.complete(client.operation, client.answer)
            client.asking.told(client.answer)
            client.operation = None
        elif rng.random() < lost_share:
            if rng.random() < 0.5:
                late.append(client.operation.request)
            history.give_up(client.operation)
            client.operation = None
        else:
            client.answer = _execute(store, client.operation.request)
            if rng.random() < lost_share / 2:
                client.operation = None  # done, and nobody hears of it
    return history


def _execute(store: Store, request: StoreRequest) -> StoreAnswer:
    if isinstance(request, StoreStaleRead):
        return read(store, request.txn)
    if not isinstance(request, StoreCompact) and not may_change(request):
        return read(store, request)
    (result,) = store.apply([Committed(1, 1, command_of(request))])
    return answer_of(result)
