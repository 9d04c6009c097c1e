"""Handshakes between versions of the program: what each end tells of feature levels, and whom it refuses."""

from pathlib import Path
from random import Random

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.levels import HIGHEST, Levels, objection_to_levels
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.joining import Joiner
from raftkv_trio.world import TcpNetwork
from tests.peers.handmade import Side, dialled
from tests.peers.hostile import listening
from tests.peers.members import BareMember, FixedLevels, connected, in_trouble, running, until

OLD = (
    "node 2 runs a version of raftkv-trio that knows feature levels up to 1, and the cluster of node 1 has"
    " level 2; upgrade node 2"
)
BEGUN = "have begun this cluster with different versions of raftkv-trio, at feature levels"


def member_at(level: int, addresses: dict[int, PeerAddress], directory: Path) -> BareMember:
    """Node 1, whose cluster has this level since index 1, or since ever."""
    return BareMember(
        1, addresses, directory, levels=FixedLevels(1, Levels(HIGHEST, level, 0 if level == 1 else 1))
    )


async def test_a_node_of_version_3_speaks_with_one_of_version_4(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Both ways, while the cluster's level is one that it knows; it counts as one that knows no other."""
    one = member_at(1, addresses, tmp_path / "1")
    said: list[Side] = []

    async def answer(stream: trio.SocketStream) -> None:
        side = Side(stream, version=3)
        said.append(side)
        await side.answer()
        await trio.sleep_forever()

    async with running(one), listening(addresses[2], answer):
        await connected(one, 2)
        assert said[0].hello is not None
        assert said[0].hello.versions == (3, 4)
        assert one.peers.highest_level(2) == 1
        stream, side = await dialled(addresses[1], version=3)
        async with stream:
            assert (await side.dial(is_known=True)).refusal is None
            assert side.welcome is not None
            assert side.welcome.version == 3


async def test_a_member_tells_what_it_knows_while_it_is_connected(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Afterwards another version of the program may come back."""
    one = member_at(1, addresses, tmp_path / "1")
    end = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        if end.is_set():
            await trio.sleep_forever()  # what has come back says nothing
        await Side(stream, levels=Levels(7)).answer()
        await end.wait()
        await stream.aclose()

    async with running(one), listening(addresses[2], answer):
        assert one.peers.highest_level(2) is None
        await connected(one, 2)
        assert one.peers.highest_level(2) == 7
        end.set()
        await until(lambda: one.peers.outgoing[2].trouble)
        assert one.peers.highest_level(2) is None
        assert one.peers.highest_level(9) is None


@pytest.mark.parametrize("version", [3, 4])
async def test_a_program_that_does_not_know_the_level_is_refused_when_it_dials(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture, version: int
) -> None:
    """With a sentence that it is told, and that stands in the log of the one that refuses."""
    one = member_at(2, addresses, tmp_path / "1")
    async with running(one):
        for purpose in (Purpose.MESSAGES, Purpose.SNAPSHOT, Purpose.JOIN):
            stream, side = await dialled(addresses[1], version=version, levels=Levels(1))
            async with stream:
                cluster = {"cluster_id": 0, "receiver": 0} if purpose is Purpose.JOIN else {}
                admission = await side.dial(purpose=purpose, **cluster)  # type: ignore[arg-type]
            assert admission.refusal is not None
            assert admission.reason == OLD
        await until(lambda: f"refused node 2: {OLD}" in caplog.text)


@pytest.mark.parametrize("version", [3, 4])
async def test_a_program_that_does_not_know_the_level_is_refused_when_it_is_dialled(
    tmp_path: Path, addresses: dict[int, PeerAddress], version: int
) -> None:
    """It is told the sentence before anything else is said, and is not taken for connected."""
    one = member_at(2, addresses, tmp_path / "1")
    reasons: list[str | None] = []

    async def answer(stream: trio.SocketStream) -> None:
        reasons.append((await Side(stream, version=version, levels=Levels(1)).answer()).reason)

    async with running(one), listening(addresses[2], answer):
        await in_trouble(one, 2, OLD)
        assert one.peers.highest_level(2) is None
    assert set(reasons) == {OLD}


async def test_a_level_that_is_not_applied_yet_is_needed_already(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The entry that raises it is in this node's log, and will be sent to whoever is let in."""
    one = member_at(1, addresses, tmp_path / "1")
    one.levels.needed = 2
    async with running(one):
        stream, side = await dialled(addresses[1], levels=Levels(1))
        async with stream:
            assert (await side.dial()).reason == OLD
        assert side.proof is not None
        assert side.proof.levels == Levels(HIGHEST, 1)


async def test_a_joiner_that_does_not_know_the_level_refuses_too(addresses: dict[int, PeerAddress]) -> None:
    """The member at the other end hears why."""
    reasons: list[str | None] = []

    async def answer(stream: trio.SocketStream) -> None:
        reasons.append((await Side(stream, 1, levels=Levels(9, 9, 40)).answer()).reason)

    with trio.fail_after(30):
        async with listening(addresses[1], answer):
            with pytest.raises(PeerProtocolError, match="upgrade node 3"):
                await Joiner(3, TcpNetwork(), Random(), None).ask(addresses[1])
    assert "upgrade node 3" in str(reasons[0])


@pytest.mark.parametrize(
    ("own", "applied", "peer", "is_refused"),
    [
        (Levels(2), 1, Levels(2, 2, 1), True),  # begun at level 1, the other one at level 2
        (Levels(2), 0, Levels(2, 2, 1), False),  # a joiner
        (Levels(2), 9, Levels(2, 2, 10), False),  # the entry that raises it will come
        (Levels(2), 10, Levels(2, 2, 10), True),  # it has applied another one in its place
        (Levels(2, 2, 10), 20, Levels(2, 2, 10), False),
        (Levels(2, 2, 10), 20, Levels(2, 2, 1), True),
        (Levels(2, 2, 10), 20, Levels(2), False),  # what the other one says is for it to check
    ],
)
def test_members_that_have_begun_differently_refuse_each_other(
    own: Levels, applied: int, peer: Levels, is_refused: bool
) -> None:
    """They have applied the same log by different rules; at least one of both ends can tell."""
    objection = objection_to_levels(1, own, own.level, applied, 2, peer)
    assert (BEGUN in (objection or "")) == is_refused
