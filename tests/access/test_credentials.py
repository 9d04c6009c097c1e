"""Passwords, tokens, and whose turn it is to be checked."""

from base64 import urlsafe_b64encode

import jwt
import pytest
import trio
import trio.testing

from raftkv_trio.access.credentials import Credentials, TokenRefused
from raftkv_trio.access.credentials.fair_turns import FairTurns
from raftkv_trio.access.credentials.passwords import WRONG_BURST, Passwords
from raftkv_trio.access.credentials.tokens import Tokens
from raftkv_trio.errors import Overloaded
from raftkv_trio.etcd.calls import Call, credentials_in
from raftkv_trio.kv import MAX_PASSWORD_BYTES, Actor, AddUser, ChangePassword, DeleteUser, Store
from raftkv_trio.world import TrioClock


class StoppedClock:
    """It stands still, so that no turn comes back."""

    def now(self) -> float:
        return 100.0

    def real_now(self) -> float:
        return 100.0

    async def sleep_until(self, deadline: float) -> None:
        raise AssertionError("nobody waits for a turn")


async def test_a_password_is_known_by_its_record() -> None:
    """The right one is, and no other one; two records of one password differ."""
    passwords = Passwords()
    record = await passwords.record_of("pässword", "a")
    assert len(record) <= MAX_PASSWORD_BYTES
    assert record != await passwords.record_of("pässword", "a")
    assert b"ssword" not in record
    assert not passwords.is_known("ann", "pässword", record)
    assert await passwords.is_right("ann", "pässword", record, "a")
    assert passwords.is_known("ann", "pässword", record)
    assert not passwords.is_known("ann", "passwort", record)
    assert not await passwords.is_right("ann", "passwort", record, "a")
    assert not await passwords.is_right("ann", "pässword", None, "a")
    other = await passwords.record_of("pässword", "a")
    assert not passwords.is_known("ann", "pässword", other)  # it was changed


@pytest.mark.parametrize("record", [b"", b"$1$", b"$2$" + bytes(51), b"$1$\x3f\xff\xff" + bytes(48)])
async def test_a_damaged_record_is_of_no_password(record: bytes) -> None:
    """Nor does it ask for more memory than there is."""
    assert not await Passwords().is_right("ann", "", record, "a")


async def test_wrong_passwords_cost_their_host() -> None:
    """After some of them the host is refused unheard, but for known passwords; another host is not."""
    passwords = Passwords(StoppedClock())
    record = await passwords.record_of("right", "a")
    assert await passwords.is_right("ann", "right", record, "a")
    refused = 0
    for _ in range(WRONG_BURST + 5):
        try:
            assert not await passwords.is_right("ann", "wrong", record, "a")
        except Overloaded:
            refused += 1
    assert refused == 4
    assert await passwords.is_right("ann", "right", record, "a")
    assert not await passwords.is_right("bob", "wrong", record, "b")


class NotingClock(TrioClock):
    """A clock that notes until when somebody sleeps."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    async def sleep_until(self, deadline: float) -> None:
        self.deadlines.append(deadline)
        await super().sleep_until(deadline)


async def test_the_thread_rests_after_a_wrong_password() -> None:
    """Whoever has sent it, and whoever comes next: else many hosts together could keep it busy."""
    clock = NotingClock()
    passwords = Passwords(clock)
    record = await passwords.record_of("right", "a")
    assert await passwords.is_right("ann", "right", record, "a")
    assert not await passwords.is_right("ann", "wrong", record, "a")
    ended = clock.now()
    assert not await passwords.is_right("bob", "wrong", record, "b")
    (deadline,) = clock.deadlines
    assert clock.now() >= deadline > ended


async def test_hosts_have_turns_alternately(autojump_clock: trio.testing.MockClock) -> None:
    """A host with many waiting keeps another one waiting for one turn. Who gives up is passed over."""
    turns = FairTurns(3, 5)
    order: list[str] = []

    async def work(host: str) -> None:
        async with turns.turn(host):
            await trio.sleep(1)
            order.append(host)

    async with trio.open_nursery() as nursery:
        for host in "aaaa":
            nursery.start_soon(work, host)
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await work("a")
        given_up = trio.CancelScope()

        async def give_up() -> None:
            with given_up:
                await work("c")

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, "b")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await work("d")
        given_up.cancel()
    assert order == ["a", "a", "b", "a", "a"]
    await work("e")


def test_tokens() -> None:
    """A token is good for its time, for its cluster, and as long as its user has the same password."""
    now = 1000.0
    store = Store()
    store.run_auth_command(AddUser("ann", b"record"))
    auth = store.auth
    tokens, other = Tokens(7, 300, lambda: now), Tokens(8, 300, lambda: now)
    restarted = Tokens(7, 300, lambda: now)
    ann = Actor("ann", auth.revision)
    token = tokens.make(ann, b"record")
    for server in (tokens, tokens, restarted):
        assert server.actor_of(token, auth) == ann
    for wrong in (
        "",
        "x",
        token[:-3] + "abc",
        tokens.make(ann, b"another"),
        other.make(ann, b"record"),
        "x" * 9999,
    ):
        with pytest.raises(TokenRefused):
            tokens.actor_of(wrong, auth)
    now += 301
    with pytest.raises(TokenRefused):
        tokens.actor_of(token, auth)
    with pytest.raises(TokenRefused):
        restarted.actor_of(token, auth)
    token = tokens.make(ann, b"record")
    assert tokens.actor_of(token, auth) == ann
    store.run_auth_command(ChangePassword("ann", b"new"))
    with pytest.raises(TokenRefused):
        tokens.actor_of(token, auth)
    token = tokens.make(ann, b"new")
    assert tokens.actor_of(token, auth) == ann
    store.run_auth_command(DeleteUser("ann"))
    with pytest.raises(TokenRefused):
        tokens.actor_of(token, auth)


def test_an_unsigned_token_is_refused() -> None:
    """One with the algorithm "none", or of another one, proves nothing."""
    store = Store()
    store.run_auth_command(AddUser("ann", b"record"))
    claims = {"sub": "ann", "rev": 2, "aud": "7", "exp": 2**40}
    tokens = Tokens(7, 300)
    for token in (jwt.encode(claims, "", "none"), jwt.encode(claims, b"k" * 64, "HS512")):
        with pytest.raises(TokenRefused):
            tokens.actor_of(token, store.auth)


@pytest.mark.parametrize(
    "content", [b"[" * 2900, b'{"sub":"ann","exp":' + b"9" * 2000 + b"}", b"\xff", b"[]"]
)
def test_nonsense_is_no_token(content: bytes) -> None:
    """Whatever stands where a token should is refused, and is no bug of ours."""
    store = Store()
    store.run_auth_command(AddUser("ann", b"record"))
    head, body, end = (
        urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', content, b"x" * 32)
    )
    for token in (f"{head}.{body}.{end}", f"{body}.{head}.{end}", f"\udc80.{body}.{end}", f"\xe9.{body}"):
        with pytest.raises(TokenRefused):
            Tokens(7, 300).actor_of(token, store.auth)


def test_what_proves_who_asks_is_in_no_text() -> None:
    """A failed test, or a traceback, may show the arguments of a call."""
    call = Call({"token": "a secret", "authorization": "a secret", ":peer-address": "10.0.0.1"})
    for text in (repr(call), str(credentials_in(call.metadata)), f"{Credentials('a secret')}"):
        assert "secret" not in text
    assert "10.0.0.1" in repr(credentials_in(call.metadata))
