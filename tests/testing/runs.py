"""Histories of a register that really is one: random clients of it, whose answers may get lost on the way."""

import random
from dataclasses import dataclass, field

from raftkv_trio.testing import (
    ABSENT,
    History,
    RecordedOperation,
    RegisterAnswer,
    RegisterDelete,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    Seen,
)


@dataclass
class TrueRegister:
    """One key as raftkv-trio has it, executed one request at a time."""

    value: bytes | None = None
    revision: int = 0
    newest: int = 0

    @property
    def seen(self) -> Seen:
        return ABSENT if self.value is None else Seen(True, self.value, self.revision)

    def execute(self, request: RegisterRequest) -> RegisterAnswer:
        """What a client is told that hears back."""
        if isinstance(request, RegisterGet):
            return RegisterAnswer(seen=self.seen)
        expects = request.expects
        if expects is not None:
            same = expects.present == self.seen.present
            same = same and expects.value in (None, self.value) and expects.revision in (None, self.revision)
            if not same:
                return RegisterAnswer(applied=False, seen=self.seen._replace(value=None))
        if isinstance(request, RegisterPut):
            self.newest += 1
            self.value, self.revision = request.value, self.newest
            return RegisterAnswer(revision=self.revision)
        was_there = self.value is not None
        self.newest += was_there
        self.value = None
        return RegisterAnswer(seen=Seen(was_there))


@dataclass
class _Client:
    name: str
    operation: RecordedOperation[RegisterRequest, RegisterAnswer] | None = None
    key: int = 0
    request: RegisterRequest = field(default_factory=RegisterGet)
    answer: RegisterAnswer | None = None


def random_history(
    rng: random.Random, *, operations: int, keys: int = 1, clients: int = 5, lost_share: float = 0.1
) -> History[RegisterRequest, RegisterAnswer]:
    """`operations` operations of concurrent clients; of `lost_share` of them the outcome is unknown.

    A lost one may have been applied, may be applied at any later time, or never is. Values are unique.
    """
    history: History[RegisterRequest, RegisterAnswer] = History()
    registers = [TrueRegister() for _ in range(keys)]
    everyone = [_Client(f"client {number}") for number in range(clients)]
    late: list[tuple[int, RegisterRequest]] = []
    while len(history) < operations or any(client.operation for client in everyone):
        if late and rng.random() < 0.05:
            key, request = late.pop(rng.randrange(len(late)))
            registers[key].execute(request)
        client = rng.choice(everyone)
        if client.operation is None:
            if len(history) < operations:
                client.key = rng.randrange(keys)
                client.request = _random_request(rng, registers[client.key], len(history))
                client.operation = history.invoke(client.name, client.key, client.request)
                client.answer = None
        elif client.answer is not None:
            history.complete(client.operation, client.answer)
            client.operation = None
        elif rng.random() < lost_share:
            if rng.random() < 0.5:
                late.append((client.key, client.request))
            history.give_up(client.operation)
            client.operation = None
        else:
            client.answer = registers[client.key].execute(client.request)
            if rng.random() < lost_share / 2:
                client.operation = None
    return history


def _random_request(rng: random.Random, register: TrueRegister, number: int) -> RegisterRequest:
    value = b"%d" % number
    expects = rng.choice([register.seen, register.seen._replace(value=None), Seen(True), ABSENT])
    requests: list[RegisterRequest] = [
        RegisterGet(),
        RegisterPut(value),
        RegisterPut(value, expects),
        RegisterDelete(),
        RegisterDelete(expects),
    ]
    return rng.choices(requests, weights=[8, 6, 4, 1, 1])[0]
