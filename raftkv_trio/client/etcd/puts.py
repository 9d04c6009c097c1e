"""Puts of one program that wait together become one txn.

A put that finds nothing under way is sent at once. What comes meanwhile waits for its answer; then all that
waits goes into one txn: the more tasks put, the larger the txns.

- A txn has each key once, because etcd refuses others: a second put of a key waits for the txn after it. So
  the puts of one key are executed in the order in which they were made.
- If a txn is refused, for whichever of its puts, each of them is made alone: a put answers for itself.
- A put that is given up while it waits is not executed. If its txn is on the way already, it may be executed,
  also later, together with the others of its txn. A txn that all have given up is given up.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NoReturn

import outcome
import trio

from raftkv_trio.client.etcd.calls import Calls, Doubt, note_given_up
from raftkv_trio.client.etcd.messages import PUT, TXN, put_message, put_reply
from raftkv_trio.client.etcd.outcomes import CallRefused, NotAuthenticated, unknown
from raftkv_trio.client.etcd.replies import PutReply
from raftkv_trio.errors import ProposalError, StoreFull, TooLarge
from raftkv_trio.kv import MAX_OPERATIONS, Put
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.sync import Wakeup

#: Of the keys and values of one txn. etcd and raftkv-trio take requests of 1.5 MiB.
MAX_BYTES = 1024 * 1024
#: So many puts of a txn may want their previous values, which may be large.
MAX_PREVIOUS = 32
#: So many of those that wait are looked at for one txn, if they have keys in common.
MAX_LOOKED_AT = 1024


class _Waiting:
    """A put, and the task that waits for it.

    Attributes:
        txn: with which it is under way; None while it waits.
        is_given_up: whether nobody waits for it any more.
    """

    __slots__ = ("is_given_up", "previous", "put", "size", "task", "txn")

    def __init__(self, put: Put, previous: bool) -> None:
        self.put = put
        self.previous = previous
        self.size = len(put.key) + len(put.value)
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.txn: _Txn | None = None

    def settle(self, result: "outcome.Outcome[PutReply]") -> None:
        """Give the waiting task its result, if it still waits."""
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)


class _Txn:
    """Puts that are under way together.

    Attributes:
        puts: those.
        doubt: whether they may have been executed.
        scope: of the call.
    """

    __slots__ = ("_waiting", "doubt", "puts", "scope")

    def __init__(self, puts: list[_Waiting]) -> None:
        self.puts = puts
        self.doubt = Doubt()
        self.scope = trio.CancelScope()
        self._waiting = sum(put.task is not None for put in puts)
        for put in puts:
            put.txn = self

    def note_given_up(self) -> None:
        """One of its tasks waits no more."""
        self._waiting -= 1
        if not self._waiting:
            self.scope.cancel()

    def fail(self, error: Exception) -> None:
        """Tell those that still wait."""
        for waiting in self.puts:
            waiting.settle(outcome.Error(_own(error)))

    async def make(self, calls: Calls) -> Iterable[PutReply]:
        """Make the call; the replies to its puts, in their order. Raises what `Calls.write` does."""
        requests = [put_message(each.put, previous=each.previous) for each in self.puts]
        if len(requests) == 1:
            return (put_reply(await calls.make(PUT, requests[0], self.doubt)),)
        operations = [rpc_pb2.RequestOp(request_put=request) for request in requests]
        answer = await calls.make(TXN, rpc_pb2.TxnRequest(success=operations), self.doubt)
        if len(answer.responses) != len(requests):
            raise unknown(None, "the server has answered another number of puts")
        return map(put_reply, [response.response_put for response in answer.responses])


class Puts:
    """Puts of a client. `run` must run meanwhile.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._waiting: OrderedDict[_Waiting, None] = OrderedDict()
        self._is_busy = False  # a put, or a txn of puts, is under way
        self._is_closed = False
        self._wakeup = Wakeup()

    async def put(self, put: Put, *, previous: bool) -> PutReply:
        """Put a key, perhaps together with other keys. Raises, and leaves behind, what `Calls.write` does."""
        if self._is_busy or self._waiting:
            return await self._wait(put, previous)
        self._is_busy = True
        try:
            return put_reply(await self._calls.make(PUT, put_message(put, previous=previous)))
        finally:
            self._is_busy = False
            if self._waiting:
                self._wakeup.set()

    async def _wait(self, put: Put, previous: bool) -> PutReply:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise closed()
        waiting = _Waiting(put, previous)

        def abort(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            waiting.task = None
            if waiting.txn is None:
                del self._waiting[waiting]
            else:
                waiting.txn.note_given_up()
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[waiting] = None
        if not self._is_busy:
            self._wakeup.set()
        try:
            reply: PutReply = await trio.lowlevel.wait_task_rescheduled(abort)
        except trio.Cancelled:
            if waiting.txn is not None:
                note_given_up(waiting.txn.doubt)
            raise
        return reply

    async def run(self) -> NoReturn:
        """Send what waits, until cancelled. Then those that wait are told."""
        try:
            while True:
                await self._wakeup.wait()
                while self._waiting and not self._is_busy:
                    await self._write_next()
        finally:
            self._is_closed = True
            for waiting in self._waiting:
                waiting.settle(outcome.Error(closed()))
            self._waiting.clear()

    async def _write_next(self) -> None:
        self._is_busy = True
        try:
            await self._write(_Txn(self._take()))
            # The tasks that have their results run in the first of these; what they put next is sent together
            # then. Trio draws in which order the tasks of one turn run, so one would not do.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        finally:
            self._is_busy = False

    def _take(self) -> list[_Waiting]:
        """Take out those that may be sent together, at least one."""
        chosen: list[_Waiting] = []
        keys, size, previous = set[bytes](), 0, 0
        for count, waiting in enumerate(self._waiting):
            if len(chosen) == MAX_OPERATIONS or count == MAX_LOOKED_AT:
                break
            if waiting.put.key in keys:
                continue
            size += waiting.size
            previous += waiting.previous
            if chosen and (size > MAX_BYTES or previous > MAX_PREVIOUS):
                break
            keys.add(waiting.put.key)
            chosen.append(waiting)
        for waiting in chosen:
            del self._waiting[waiting]
        return chosen

    async def _write(self, txn: _Txn) -> None:
        """Send a txn, and settle its puts."""
        try:
            with txn.scope:
                for waiting, reply in zip(txn.puts, await txn.make(self._calls), strict=True):
                    waiting.settle(outcome.Value(reply))
        except (CallRefused, StoreFull, TooLarge) as error:
            if len(txn.puts) == 1 or isinstance(error, NotAuthenticated):
                txn.fail(error)
                return
            async with trio.open_nursery() as nursery:
                for waiting in txn.puts:
                    if waiting.task is not None:
                        nursery.start_soon(self._write, _Txn([waiting]))
        except (ProposalError, trio.ClosedResourceError) as error:
            txn.fail(error)
        finally:
            # Nothing is left, unless the client is closed, or the server has answered with nonsense.
            txn.fail(unknown(None, "the client is closed") if txn.doubt.was_sent else closed())


def closed() -> trio.ClosedResourceError:
    """What is raised in those that use a closed client."""
    return trio.ClosedResourceError("the client is closed")


def _own(error: Exception) -> Exception:
    """An error of the same kind, for each task that is to raise it."""
    if isinstance(error, ProposalError) and not isinstance(error, CallRefused):
        own = type(error)(*error.args)
        own.__cause__ = error.__cause__
        return own
    return error
