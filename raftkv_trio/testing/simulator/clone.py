"""A clone, at level 2: a second process under a member's id, on a copy of that member's data directory.

It runs at a place of its own. From there it dials the members; they dial the first process, whose address
they know. The invariants watch the first process alone. So what the clone promises is no promise of the
member: if anybody counted it, a leader or an entry would lack a quorum.
"""

from collections.abc import Iterable
from random import Random

import trio

from raftkv_trio.errors import ConfigError, NodeRemoved, StorageError, leaves
from raftkv_trio.node.node import run_node
from raftkv_trio.sync import cancelled_when
from raftkv_trio.testing.invariants.first_process import FirstProcessCheck
from raftkv_trio.testing.schedules.schedule import DISK_CALL_S
from raftkv_trio.testing.simulator.simulated_member import MemberClock, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.task_ports import InlineWorker, Process, TaskClock
from raftkv_trio.testing.world.message_network import Conditions
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk
from raftkv_trio.testing.world.stream_network import NodeNetwork, StreamNetwork
from raftkv_trio.testing.world.timeline import Timeline, Trace
from raftkv_trio.world import World

#: The place of a clone is the member's id and this; ids of members are lower.
ELSEWHERE = 1000
LOOK_EVERY_S = 0.1


class Clone:
    """A second process of a member, which runs.

    Args:
        member: the first process.
        others: the other members; while nothing befalls them, the first process must keep its streams there.
    """

    def __init__(
        self,
        member: SimulatedMember,
        others: Iterable[SimulatedMember],
        *,
        network: StreamNetwork,
        timeline: Timeline,
        trace: Trace,
    ) -> None:
        self._member = member
        self._parts = member.parts
        self._watched = {other.id: (other, other.parts) for other in others if _is_running(other)}
        self._network = network
        self._timeline = timeline
        self._trace = trace
        self._random = Random(f"clone {member.id} at {self._timeline.now}")
        self._place = ELSEWHERE + member.id
        self._disk = SimulatedDisk(Random(self._random.getrandbits(64)))
        self._disk.set_back(member.disk.copy())
        self._process = Process()
        self._check = FirstProcessCheck(member.id, self._timeline.now)

    async def run(self) -> None:
        """Run until `end`, or until it ends by itself, as it does if the member is removed."""
        process = self._process
        self._note("starts")
        self._network.join(self._place, self)
        self._timeline.after(LOOK_EVERY_S, self._look)
        clock = MemberClock(self._timeline)
        try:
            with process.scope:
                await run_node(
                    self._member.config,
                    self._member.make_machine(),
                    disk=self._disk,
                    world=World(
                        network=NodeNetwork(self._place, self._network, self.when_running),
                        clock=TaskClock(self, clock),
                        worker=InlineWorker(self, process, writes_log=True),
                        bulk_worker=InlineWorker(self, process, writes_log=False),
                        random=self._random,
                        highest_level=self._member.highest_level,
                    ),
                )
        except Exception as error:
            for leaf in leaves(error):
                if not isinstance(leaf, (Halted, StorageError, ConfigError, NodeRemoved)):
                    raise leaf from error  # a bug in the node
                if not process.has_ended:
                    self._note(f"ends: {leaf}")
        self.end()

    def end(self) -> None:
        """End its process at once, as `kill -9` does. Its tasks unwind later, and reach nothing."""
        if not self._process.has_ended:
            self._note("ends")
            self.abandon()
            self._network.leave(self._place)

    def abandon(self) -> None:
        """End its process when the simulation is over: nobody is told."""
        self._process.ended.set()
        self._process.scope.cancel()
        self._disk.kill()

    # ------------------------------------------------------------ where it runs: a host without faults

    async def when_running(self) -> None:
        """It is never paused."""

    async def spend_disk_time(self, process: Process) -> None:
        """Wait as long as a disk call takes, or until the process has ended."""
        over = trio.Event()
        self._timeline.after(self._random.uniform(*DISK_CALL_S), over.set)
        async with cancelled_when(process.ended.wait):
            await over.wait()

    def halted(self, halted: Halted) -> None:
        """Its disk halts only when it has ended."""

    # ------------------------------------------------------------ what it must not do to the first process

    def _look(self) -> None:
        """Check that the first process keeps its streams, as far as nothing else ends them."""
        member, parts = self._member, self._parts
        is_over = self._process.has_ended or member.parts is not parts or not _is_running(member)
        # In a bad network streams end, and a living process does not answer in time.
        if is_over or parts is None or self._network.conditions != Conditions():
            return
        outgoing = parts.peers.outgoing
        self._watched = {
            peer_id: (other, its_parts)
            for peer_id, (other, its_parts) in self._watched.items()
            if other.parts is its_parts
            and _is_running(other)
            and peer_id in outgoing
            and not self._network.is_cut(member.id, peer_id)
        }
        streams = {peer_id: outgoing[peer_id].trouble is None for peer_id in self._watched}
        self._check.check(self._timeline.now, streams, parts.peers.second_process.reason)
        self._timeline.after(LOOK_EVERY_S, self._look)

    def _note(self, what: str) -> None:
        self._trace.note(f"clone of node {self._member.id}", what)


def _is_running(member: SimulatedMember) -> bool:
    return member.parts is not None and member.state is ProcessState.UP
