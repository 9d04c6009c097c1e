"""What a hostile peer says to a real node: refused, with a reason that log and metric show."""

from pathlib import Path

import pytest

from tests.peers.hostile import besieged

pytestmark = pytest.mark.usefixtures("security")


async def test_the_nodes_under_siege_work(tmp_path: Path) -> None:
    """Unharmed nodes pass the checks that an attack must leave them to pass; all three roles can speak."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        await siege.check_unharmed(terms=terms)
        follower = await siege.follower()
        member = siege.member(follower.config.node_id)
        async with member.speaking() as stream:
            assert stream.refusal is None
        joiner = await siege.joiner(follower.config.node_id)
        async with joiner.speaking() as stream:
            assert stream.refusal is None
        answer = await siege.stranger(1).join_query()
        assert answer.cluster_id == siege.cluster_id
        assert answer.urls.keys() == {1, 2, 3, joiner.node_id}
        await siege.check_starts_again()
