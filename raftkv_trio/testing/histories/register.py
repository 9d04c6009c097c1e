"""A key of a revisioned store as a sequential object: what the REST API of raftkv-trio promises of one key.

Revisions are those of etcd's v3 store (`mod revision`): every write that is applied gives the key a greater
one. A write whose answer was lost has a revision that nobody was told; it is learnt from whoever sees it.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """What somebody saw of a key, or expects of it; None: not said."""

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
    """Set the value, where the key is as `expects` says (If-Match, If-None-Match: *, or a value)."""

    value: bytes
    expects: Seen | None = None

    def __str__(self) -> str:
        return f"put {self.value!r}" + _if(self.expects)


class RegisterDelete(NamedTuple):
    """Remove the key, where it is as `expects` says."""

    expects: Seen | None = None

    def __str__(self) -> str:
        return "delete" + _if(self.expects)


class RegisterAnswer(NamedTuple):
    """What a completed operation was told.

    Attributes:
        applied: False where the key was not as a write expected, so that nothing was done.
        seen: the key as it was right before the operation, as far as the answer says so. A write that
            expected a revision and was not applied must say that the key was absent, or its revision.
        revision: of the version that a put wrote; None: not told.
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


class Version(NamedTuple):
    """A state of the register: `value` None is absent, `revision` None not known yet.

    `newest` is the highest revision known so far; all that follow are greater.
    """

    value: bytes | None = None
    revision: int | None = None
    newest: int = 0

    def __str__(self) -> str:
        return str(Seen(self.value is not None, self.value, self.revision))


class Register:
    """The sequential specification of one key, for `check_linearizable`."""

    def initial(self, key: Hashable) -> Version:
        """The state of a key that nothing was written to."""
        return Version()

    def step(
        self, state: Version, request: RegisterRequest, answer: RegisterAnswer | None
    ) -> Sequence[Version]:
        """The states that `request` may leave behind; none where `answer` contradicts `state`.

        Without an answer: those that it leaves if it is applied. Raises ValueError for an answer that says
        too little (see `RegisterAnswer.seen`).
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
            return (Version(None, None, met.newest),)
        revision = None if answer is None else answer.revision
        if revision is None:
            return (Version(request.value, None, met.newest),)
        return (Version(request.value, revision, revision),) if revision > met.newest else ()

    def only_reads(self, request: RegisterRequest, answer: RegisterAnswer) -> bool:
        """Whether it changes no state, wherever it stands in an order."""
        return isinstance(request, RegisterGet) or not answer.applied

    def rank(self, request: RegisterRequest, answer: RegisterAnswer) -> int | None:
        """By the highest revision that it tells of; who wrote that one comes before those who saw it."""
        if answer.revision is not None:
            return 2 * answer.revision
        seen = [s.revision for s in _seen_before(request, answer) if s.revision is not None]
        return 2 * max(seen) + 1 if seen else None

    def may_see(
        self, request: RegisterRequest, answer: RegisterAnswer | None, write: RegisterRequest
    ) -> bool:
        """Whether `request` may get on only because `write`, whose answer was lost, came right before it."""
        if isinstance(write, RegisterGet):
            return False
        if answer is not None and not answer.applied and answer.seen is None:
            return True  # something did not meet what it expected
        written = Seen(True, write.value) if isinstance(write, RegisterPut) else ABSENT
        seen = _seen_before(request, answer)
        return bool(seen) and all(_fits(written, one) for one in seen)


def _if(expects: Seen | None) -> str:
    return "" if expects is None else f" if {expects}"


def _seen_before(request: RegisterRequest, answer: RegisterAnswer | None) -> list[Seen]:
    """What is certain of the key right before `request`, if that was, or is to be, applied with `answer`."""
    seen = None if answer is None else answer.seen
    expects = None if isinstance(request, RegisterGet) or (answer and not answer.applied) else request.expects
    return [one for one in (seen, expects) if one is not None]


def _narrow(state: Version, seen: Seen) -> Version | None:
    """`state` with what `seen` tells of it, or None where both cannot be."""
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
    return Version(state.value, seen.revision, seen.revision)


def _certainly_meets(state: Version, expects: Seen | None) -> bool:
    if expects is None:
        return True
    met = _narrow(state, expects)
    if met is not None and met != state:
        raise ValueError("an answer that a revision did not match must say which one it was")
    return met is not None


def _fits(written: Seen, seen: Seen) -> bool:
    return written.present == seen.present and seen.value in (None, written.value)
