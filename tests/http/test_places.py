"""Who gives way when there are too many connections."""

import pytest

from raftkv_trio.addresses import host_of
from raftkv_trio.http.places import Places


class Client:
    """A connection that notes whether it was stopped."""

    def __init__(self) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


def taken(
    places: Places[Client], host: str, count: int, *, busy: bool = False, shakes_hands: bool = False
) -> list[Client]:
    clients = [Client() for _ in range(count)]
    for client in clients:
        assert places.take(client, host, shakes_hands=shakes_hands)
        if busy:
            places.idle_now(client, False)
    return clients


def test_the_longest_idle_gives_way() -> None:
    """It is the one whose last request ended first, or that came first without any; a busy one never is."""
    places: Places[Client] = Places(4, lambda: 0.0)
    busy, used, new, newer = taken(places, "a", 4)
    places.idle_now(busy, False)
    places.idle_now(used, False)
    places.idle_now(used, True)
    for victim in (new, newer, used):
        assert not victim.is_stopped
        taken(places, "b", 1, busy=True)
        assert victim.is_stopped
    assert not places.take(Client(), "c")
    assert not busy.is_stopped


def test_one_that_gave_way_comes_not_back() -> None:
    """What a connection tells while it ends changes nothing."""
    places: Places[Client] = Places(1, lambda: 0.0)
    (old,) = taken(places, "a", 1)
    (new,) = taken(places, "a", 1, busy=True)
    places.idle_now(old, True)
    places.leave(old)
    assert places.all() == [new]
    assert not places.take(Client(), "a")
    places.leave(new)
    assert places.take(Client(), "a")


def test_who_is_idle_since_when() -> None:
    """What counts is when a connection became idle the last time; a busy one is not idle."""
    now = 1.0
    places: Places[Client] = Places(9, lambda: now)
    busy, used, unused = taken(places, "a", 3)
    places.idle_now(busy, False)
    places.idle_now(used, False)
    now = 2.0
    places.idle_now(used, True)
    assert places.idle_since(0.9) == []
    assert places.idle_since(1.0) == [unused]
    assert places.idle_since(2.0) == [unused, used]


def test_a_host_has_nine_tenths() -> None:
    """For more it gives up idle ones of its own; others find the last tenth."""
    places: Places[Client] = Places(20, lambda: 0.0)
    greedy = taken(places, "a", 18)
    taken(places, "a", 1)
    assert greedy[0].is_stopped
    for client in greedy[1:]:
        places.idle_now(client, False)
    taken(places, "a", 1, busy=True)
    assert not places.take(Client(), "a")
    others = taken(places, "b", 2)
    assert not any(client.is_stopped for client in (*greedy[1:], *others))


def stopped(clients: list[Client]) -> int:
    return sum(client.is_stopped for client in clients)


def test_handshakes_drop_few_idle_ones() -> None:
    """Of those in their handshake, at most a tenth of all take the places of idle ones."""
    places: Places[Client] = Places(20, lambda: 0.0)
    idle = [*taken(places, "a", 10), *taken(places, "b", 10)]
    first, second = taken(places, "c", 2, shakes_hands=True)
    assert stopped(idle) == 2
    taken(places, "c", 1000, shakes_hands=True)
    assert (stopped(idle), first.is_stopped, second.is_stopped) == (2, True, True)


def test_a_handshake_gives_way_to_a_host_with_fewer() -> None:
    """The oldest of the host that has the most, also if it is all that there is."""
    places: Places[Client] = Places(20, lambda: 0.0)
    (rare,) = taken(places, "a", 1, shakes_hands=True)
    crowd = taken(places, "b", 18, shakes_hands=True)
    (done,) = taken(places, "c", 1, shakes_hands=True)
    places.idle_now(done, True)
    taken(places, "d", 3)
    assert [client.is_stopped for client in crowd] == [True] * 3 + [False] * 15
    assert stopped([rare, done]) == 0
    for client in (rare, done, *crowd[3:]):
        places.leave(client)
    assert len(places.all()) == 3


def test_a_host_drops_its_own_handshakes() -> None:
    """If it has nine tenths, and as many of them are in their handshake, or if nothing else of it may go."""
    places: Places[Client] = Places(20, lambda: 0.0)
    (idle,) = taken(places, "a", 1)
    crowd = taken(places, "a", 1000, shakes_hands=True)
    assert (idle.is_stopped, stopped(crowd)) == (False, 1000 - 17)
    for client in crowd[1000 - 17 :]:
        places.leave(client)
    taken(places, "a", 16, busy=True)
    (alone,) = taken(places, "a", 1, shakes_hands=True)
    taken(places, "a", 1, busy=True)
    assert (idle.is_stopped, alone.is_stopped) == (True, False)
    taken(places, "a", 1, busy=True)
    assert alone.is_stopped
    assert not places.take(Client(), "a", shakes_hands=True)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "10.0.0.1", False),
    ],
)
def test_hosts(one: str, other: str, is_same: bool) -> None:
    """An IPv6 host has all of its /64, and IPv4 clients are told apart on a socket for both."""
    assert (host_of(one) == host_of(other)) is is_same
