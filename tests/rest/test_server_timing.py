"""`Server-Timing`: where the time of one PUT went, for a client that asks, and for nobody else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import httpx
import pytest

from raftkv_trio.node.proposals import Applied, ProposalTable
from raftkv_trio.node.tracing import MAX_TRACES, Tracer
from raftkv_trio.sync import Wakeup
from tests.cli.cluster import Cluster
from tests.cli.program import NO_TLS

ASKS = {"X-Raft-Trace": "1"}


@pytest.fixture
def three(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, free_ports(6))
    try:
        for node_id in cluster.urls:
            cluster.start(node_id)
        for node in cluster.nodes.values():
            node.wait_answer(200, "/-/ready")
        yield cluster
    finally:
        cluster.close()


def points_of(response: httpx.Response) -> dict[str, float]:
    """The points of a response in milliseconds, in the order in which they were reached."""
    parts = [metric.split(";dur=") for metric in response.headers["Server-Timing"].split(", ")]
    return {name: float(time_ms) for name, time_ms in parts}


async def test_only_who_asks_is_told(client: httpx.AsyncClient) -> None:
    """And nothing else of the response changes."""
    plain = await client.put("/key", content=b"v")
    asked = await client.put("/key", content=b"v", headers=ASKS)
    other = await client.put("/key", content=b"v", headers={"X-Raft-Trace": "0"})
    assert [plain.status_code, asked.status_code, other.status_code] == [204, 204, 204]
    assert "Server-Timing" not in plain.headers.keys() | other.headers.keys()
    assert asked.headers.keys() - plain.headers.keys() == {"server-timing"}
    assert list(points_of(asked)) == [
        *("parsed", "submitted", "appended", "write-begun", "durable", "committed", "applied", "answered")
    ]


def test_the_way_through_three_nodes(three: Cluster) -> None:
    """The leader sees each step, in an order that can be; a follower sees that it has forwarded the write."""
    (leader,) = (i for i, node in three.nodes.items() if node.status()["role"] == "leader")
    with httpx.Client(timeout=60, verify=NO_TLS) as client:
        points = points_of(client.put(three.urls[leader] + "/key", content=b"v", headers=ASKS))
        path = [
            "parsed",
            "submitted",
            "appended",
            "write-begun",
            "durable",
            "committed",
            "applied",
            "answered",
        ]
        assert [name for name in points if name in path] == path
        answers = {f"durable-at-{node_id}" for node_id in three.nodes if node_id != leader}
        assert points.keys() - {*path, "sent"} <= answers
        first_answer = min(time for name, time in points.items() if name in answers)
        assert points["appended"] <= points["sent"] < first_answer <= points["committed"]

        follower = next(i for i in three.nodes if i != leader)
        points = points_of(client.put(three.urls[follower] + "/key", content=b"v", headers=ASKS))
        assert list(points) == ["parsed", "submitted", "forwarded", "applied", "answered"]


def test_traces_end_with_their_proposals() -> None:
    """Whatever becomes of a write, nothing is kept of it; and not more than a few are followed at once."""
    table = ProposalTable(
        node_id=1, random=Random(1), wakeup=Wakeup(), max_command_bytes=9, max_count=999, max_bytes=999
    )
    now_s = 0.0
    tracer = Tracer(lambda: now_s)
    traces, proposals = [], []
    for number in range(MAX_TRACES + 1):
        traces.append(tracer.begin())
        proposals.append(table.submit(b"x"))
        traces[-1].follow(proposals[-1])
        traces[-1].index = number
    table.sent(table.next_queued(999), 1, 1)
    now_s = 0.25
    tracer.reached("durable", MAX_TRACES)
    assert [trace.points.get("durable") for trace in traces] == [*[250.0] * MAX_TRACES, None]
    assert tracer.is_on
    for proposal in proposals[1:]:
        table.applied(proposal.id, Applied(1, 2, None))
    now_s = 0.5
    tracer.reached("durable", MAX_TRACES)
    assert traces[0].points["durable"] == 250.0  # the first time counts
    assert traces[-1].points["applied"] == 250.0
    proposals[0].give_up()
    assert not tracer.is_on
