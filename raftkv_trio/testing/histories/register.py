"""One key of a revisioned store as a sequential object: what the REST API of raftkv-trio promises of a key.

Revisions are etcd's `mod revision`: each applied write gives the key a greater one. If the answer to a write
was lost, its revision is unknown until an operation sees the value with its revision.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """What a client saw of a key, or expects of it; a field is None if it is not said."""

    present: bool
    value: bytes | None = None
    revision: int | None = None

    def __str__(self) -> str:
        if not self.present:
            return "absent"
        value = "present" if self.value is None else repr(self.value)
        return value if self.revision is None else f"{value} at revision {self.revision}"


ABSENT = Seen(present=False)
PRESENT = Seen(present=True)


class RegisterGet(NamedTuple):
    """Read the key."""

    def __str__(self) -> str:
        return "get"


class RegisterPut(NamedTuple):
    """Set the value, if the key is as `expects` says (If-Match, If-None-Match: *, or a value)."""

    value: bytes
    expects: Seen | None = None

    def __str__(self) -> str:
        return f"put {self.value!r}" + _if(self.expects)


class RegisterDelete(NamedTuple):
    """Delete the key, if it is as `expects` says."""

    expects: Seen | None = None

    def __str__(self) -> str:
        return "delete" + _if(self.expects)


class RegisterAnswer(NamedTuple):
    """The answer to a completed operation.

    Attributes:
        applied: False if the key was not as a write expected, so that nothing was done.
        seen: the key right before the operation, as far as the answer tells. If a write expected a revision
            and was not applied, it must tell the key's revision, or that the key was absent.
        revision: revision of the version that a put wrote; None if the answer does not tell.
    """

    applied: bool = True
    seen: Seen | None = None
    revision: int | None = None

    def __str__(self) -> str:
        parts = [] if self.applied else ["not applied"]
        parts += [] if self.seen is None else [str(self.seen)]
        parts += [] if self.revision is None else [f"revision {self.revision}"]
        return ", ".join(parts) or "applied"


RegisterRequest = RegisterGet | RegisterPut | RegisterDelete


class RegisterVersion(NamedTuple):
    """A state of the register.

    Attributes:
        value: None: the key is absent.
        revision: None: not known yet.
        newest: the highest revision known so far; all later revisions are greater.
    """

    value: bytes | None = None
    revision: int | None = None
    newest: int = 0

    def __str__(self) -> str:
        return str(Seen(self.value is not None, self.value, self.revision))


class Register:
    """The sequential specification of one key, for `check_linearizable`."""

    def initial(self, key: Hashable) -> RegisterVersion:
        """The state of `key` before any operation."""
        return RegisterVersion()

    def step(
        self, state: RegisterVersion, request: RegisterRequest, answer: RegisterAnswer | None
    ) -> Sequence[RegisterVersion]:
        """The states that `request` may leave behind; none if `answer` contradicts `state`.

        If `answer` is None: the states that `request` leaves if it is applied. Raises ValueError if an answer
        says too little (see `RegisterAnswer.seen`).
        """
        if answer is not None and answer.seen is not None:
            narrowed = _narrow(state, answer.seen)
            if narrowed is None:
                return ()
            state = narrowed
        if isinstance(request, RegisterGet):
            return (state,)
        if answer is not None and not answer.applied:
            return () if _certainly_meets(state, request.expects) else (state,)
        met = state if request.expects is None else _narrow(state, request.expects)
        if met is None:
            return ()
        if isinstance(request, RegisterDelete):
            return (RegisterVersion(None, None, met.newest),)
        revision = None if answer is None else answer.revision
        if revision is None:
            return (RegisterVersion(request.value, None, met.newest),)
        return (RegisterVersion(request.value, revision, revision),) if revision > met.newest else ()

    def only_reads(self, request: RegisterRequest, answer: RegisterAnswer) -> bool:
        """Whether `request` with `answer` changes no state in any order."""
        return isinstance(request, RegisterGet) or not answer.applied

    def rank(self, request: RegisterRequest, answer: RegisterAnswer) -> int | None:
        """Ranked by the highest revision told; the write of a revision comes before those that saw it."""
        if answer.revision is not None:
            return 2 * answer.revision
        seen = [s.revision for s in _seen_before(request, answer) if s.revision is not None]
        return 2 * max(seen) + 1 if seen else None

    def may_see(
        self, request: RegisterRequest, answer: RegisterAnswer | None, write: RegisterRequest
    ) -> bool:
        """Whether `request` may be possible only because the lost `write` came right before it."""
        if isinstance(write, RegisterGet):
            return False
        if answer is not None and not answer.applied and answer.seen is None:
            return True  # something made the key other than expected; it may have been this write
        written = Seen(True, write.value) if isinstance(write, RegisterPut) else ABSENT
        seen = _seen_before(request, answer)
        return bool(seen) and all(_fits(written, one) for one in seen)


def _if(expects: Seen | None) -> str:
    return "" if expects is None else f" if {expects}"


def _seen_before(request: RegisterRequest, answer: RegisterAnswer | None) -> list[Seen]:
    """What is certain of the key right before `request`, if `request` is applied with `answer`."""
    seen = None if answer is None else answer.seen
    expects = None if isinstance(request, RegisterGet) or (answer and not answer.applied) else request.expects
    return [one for one in (seen, expects) if one is not None]


def _narrow(state: RegisterVersion, seen: Seen) -> RegisterVersion | None:
    """`state` narrowed by what `seen` tells; None if they contradict each other."""
    if seen.present != (state.value is not None):
        return None
    if not seen.present:
        return state
    if seen.value is not None and seen.value != state.value:
        return None
    if seen.revision is None or seen.revision == state.revision:
        return state
    if state.revision is not None or seen.revision <= state.newest:
        return None
    return RegisterVersion(state.value, seen.revision, seen.revision)


def _certainly_meets(state: RegisterVersion, expects: Seen | None) -> bool:
    if expects is None:
        return True
    met = _narrow(state, expects)
    if met is not None and met != state:
        raise ValueError("the answer to a write that missed its revision must tell the key's revision")
    return met is not None


def _fits(written: Seen, seen: Seen) -> bool:
    return written.present == seen.present and seen.value in (None, written.value)
