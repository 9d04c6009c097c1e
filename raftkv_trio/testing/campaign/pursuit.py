"""A member that was away catches up while writers go on, however long its snapshot takes."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from raftkv_trio.errors import ProposalError
from raftkv_trio.kv import Put, Txn, encode_txn
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

WRITE_INTERVAL_S = 0.003
AWAY_S = 2.0
#: Of the member that catches up: slower than all others, so that it takes long to restore.
DISK_CALL_S = (0.1, 0.2)
#: A member that lags by less streams: the leader writes as much in a few of its disk calls, and as much again
#: for each round trip, in which the entries and the answers are under way.
LAG_ENTRIES = 400
_WRITE = encode_txn(Txn(success=(Put(b"steady", b"value"),)))


def pursue(
    simulation: Simulation, whole: Collection[int], round_trip_s: float
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Cut a voter off while others write, mend that, and yield what must become true in turn.

    Does nothing if the others would be no majority, of those in `whole`, which can run.
    """
    leader = leader_of(simulation)
    if leader is None or leader.parts is None:
        return
    voters = leader.parts.raw.status().configuration.voters
    whole_voters = [i for i in voters if i in whole]
    if len(whole_voters) - 1 <= len(voters) // 2:
        return
    away = next(i for i in whole_voters if i != leader.id)
    simulation.trace.note("fault", f"node {away} is away, and catches up while writers go on")
    others = [i for i in simulation.members if i != away]
    cut = simulation.network.cut([pair for i in others for pair in ((i, away), (away, i))])
    simulation.members[away].disk_call_s = DISK_CALL_S
    writers = _SteadyWriter(simulation)
    writers.write()
    end = simulation.now + AWAY_S
    yield "time has stopped", lambda: simulation.now >= end
    simulation.network.mend(cut)
    lag_entries = LAG_ENTRIES + int(2 * round_trip_s / WRITE_INTERVAL_S)
    yield (
        "a member does not catch up while writers go on",
        lambda: is_streaming(simulation, away, lag_entries),
    )
    writers.is_writing = False


def leader_of(simulation: Simulation) -> SimulatedMember | None:
    """The leader of the latest term, if any."""
    leaders = [(m.parts.raw.term, m.id) for m in simulation.members.values() if m.parts and m.leads]
    return simulation.members[max(leaders)[1]] if leaders else None


def is_streaming(simulation: Simulation, node: int, lag_entries: int = LAG_ENTRIES) -> bool:
    """Whether the leader streams entries to this node, which lags by fewer than `lag_entries`."""
    leader = leader_of(simulation)
    if leader is None or leader.parts is None:
        return False
    progress = leader.parts.raw.status().progress.get(node)
    last, first = leader.parts.raw.last_index, leader.parts.raw.raft.log.first_index()
    if progress is None or progress.state is not ProgressState.REPLICATE:
        return False
    # One that has just acknowledged an old snapshot, and lacks what is compacted, waits for the next one.
    return progress.next >= first and progress.match + lag_entries > last


class _SteadyWriter:
    """Submits a command in every interval, whether the ones before are applied or not."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.is_writing = True

    def write(self) -> None:
        leader = leader_of(self._simulation)
        if leader is not None and leader.node is not None:
            with suppress(ProposalError):
                leader.node.submit(_WRITE)
        if self.is_writing:
            self._simulation.timeline.after(WRITE_INTERVAL_S, self.write)
