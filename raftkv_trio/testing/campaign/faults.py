"""What each kind of fault does to a simulation, and how the fault ends."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from raftkv_trio.testing.campaign.reshaping import can_lose, join, remove, replace_member
from raftkv_trio.testing.invariants.violation import DURABILITY, Violation
from raftkv_trio.testing.schedules.schedule import RESHAPING, Fault, FaultKind, one_way
from raftkv_trio.testing.simulator.simulated_member import DATA_DIR, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation
from raftkv_trio.testing.world.inodes import Directory
from raftkv_trio.testing.world.message_network import Conditions

Strike = Callable[[Simulation, Fault], None]
RESTART_S = 0.1
NOTICED_WITHIN_S = 4.0


def strike(simulation: Simulation, fault: Fault) -> None:
    """Make a fault happen now, and plan its end."""
    leaders = [(m.parts.raw.term, m.id) for m in simulation.members.values() if m.parts and m.leads]
    if fault.leader and leaders:
        fault = replace(fault, node=max(leaders)[1])
    simulation.trace.note("fault", str(fault))
    if fault.node is not None and fault.node not in simulation.members and fault.kind not in RESHAPING:
        return  # the node has not joined yet
    _STRIKES[fault.kind](simulation, fault)


def mend_all(simulation: Simulation) -> None:
    """End all faults, except disks that stay full and data directories that do not verify."""
    simulation.trace.note("fault", "all heals")
    simulation.network.mend_all()
    simulation.end_power_losses()
    # Distance is no fault, nor is bandwidth: messages go on taking their time.
    links = simulation.conditions
    conditions = Conditions(delay_s=links.delay_s, bytes_per_s=links.bytes_per_s)
    simulation.conditions = simulation.network.conditions = conditions
    for member in simulation.members.values():
        _end_disk_faults(member)
        member.clock.set_rate(1.0)
        member.resume()
        simulation.start(member.id)


def make_room(simulation: Simulation) -> None:
    """End what `mend_all` has left: give disks that stay full their room."""
    for member in simulation.members.values():
        if member.disk_stays_full:
            simulation.trace.note("fault", f"the disk of node {member.id} has room")
            member.disk_stays_full = False
            member.disk.free_bytes = None


def _end_disk_faults(member: SimulatedMember) -> None:
    member.disk.disarm()
    _end_full(member)
    member.disk_is_slow_s = 0.0


def _member(simulation: Simulation, fault: Fault) -> SimulatedMember:
    assert fault.node is not None
    return simulation.members[fault.node]


def _later(simulation: Simulation, fault: Fault, action: Callable[..., object], *arguments: object) -> None:
    simulation.timeline.after(fault.duration_s, action, *arguments)


# ---------------------------------------------------------------- the network


def _cut(simulation: Simulation, fault: Fault) -> None:
    number = simulation.network.cut(fault.pairs)
    _later(simulation, fault, simulation.network.mend, number)


def _cut_off(simulation: Simulation, fault: Fault) -> None:
    """Cut off one node with `number` others on its side; with a `factor`, its disk is slow meanwhile."""
    member = _member(simulation, fault)
    others = [i for i in simulation.members if i != member.id]
    away_count = min(max(1, len(others) - fault.number), len(others))  # it may be the only node left
    away = simulation.random.sample(others, away_count)
    pairs = one_way([i for i in simulation.members if i not in away], away)
    number = simulation.network.cut([*pairs, *[(b, a) for a, b in pairs]])
    _later(simulation, fault, simulation.network.mend, number)
    if fault.factor:
        _slow_down(simulation, fault)


def _worsen(simulation: Simulation, fault: Fault) -> None:
    network = simulation.network
    network.conditions = replace(
        simulation.conditions, loss=fault.factor, duplication=fault.factor, stray=fault.factor, reorders=True
    )
    _later(simulation, fault, _end_worse, simulation)


def _hold_up(simulation: Simulation, fault: Fault) -> None:
    simulation.network.conditions = replace(simulation.conditions, stray=fault.factor, reorders=True)
    _later(simulation, fault, _end_worse, simulation)


def _end_worse(simulation: Simulation) -> None:
    simulation.network.conditions = simulation.conditions


def _disconnect(simulation: Simulation, fault: Fault) -> None:
    for sender, receiver in fault.pairs:
        simulation.network.disconnect(sender, receiver)


# ---------------------------------------------------------------- processes and clocks


def _halt(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    if member.node is not None:
        simulation.plan_restart(member.id, fault.duration_s, again_s=fault.again_s)
        member.halt(power=fault.kind is FaultKind.POWER)


def _halt_all(simulation: Simulation, fault: Fault) -> None:
    for member in simulation.members.values():
        if member.node is not None:
            simulation.plan_restart(member.id, fault.duration_s * simulation.random.uniform(0.5, 1.0))
            member.halt(power=True)


def _stop(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    if member.node is not None:
        simulation.plan_restart(member.id, fault.duration_s, again_s=fault.again_s)
        member.stop()


def _pause(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    member.pause()
    _later(simulation, fault, member.resume)


def _clone(simulation: Simulation, fault: Fault) -> None:
    """Clone the node, or another one if it is down; not one whose directory need not start."""
    able = [m.id for m in simulation.members.values() if m.node is not None and not m.is_rotten]
    if able:
        simulation.run_clone(fault.node if fault.node in able else able[0], fault.duration_s)


def _let_stranger_speak(simulation: Simulation, fault: Fault) -> None:
    simulation.run_stranger(fault.duration_s)


def _change_clock(simulation: Simulation, fault: Fault) -> None:
    clock = _member(simulation, fault).clock
    clock.set_rate(fault.factor)
    _later(simulation, fault, clock.set_rate, 1.0)


def _transfer(simulation: Simulation, fault: Fault) -> None:
    for member in simulation.members.values():
        if member.leads:
            member.transfer_leadership()


# ---------------------------------------------------------------- disks


def _slow_down(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    member.disk_is_slow_s = fault.factor
    _later(simulation, fault, setattr, member, "disk_is_slow_s", 0.0)


def _fill(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    member.disk.free_bytes = fault.number
    _later(simulation, fault, _end_full, member)


def _fill_for_good(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    member.disk_stays_full = True
    member.disk.free_bytes = fault.number


def _end_full(member: SimulatedMember) -> None:
    if not member.disk_stays_full:
        member.disk.free_bytes = None


def _set_back(simulation: Simulation, fault: Fault) -> None:
    """Copy a follower's directory; later set it back to the copy, if the leader is still the same.

    Without that leader nobody could know what is lost, and nothing would be safe.
    """
    leaders = [m for m in simulation.members.values() if m.leads]
    ups = [m for m in simulation.members.values() if m.node is not None and not m.leads]
    if not leaders or not ups:
        return
    member = next((m for m in ups if m.id == fault.node), ups[0])
    simulation.plan_restart(member.id, RESTART_S)
    member.halt(power=False)
    _later(
        simulation, fault, _set_back_to, simulation, member, member.disk.copy(), leaders[0], leaders[0].parts
    )


def _set_back_to(
    simulation: Simulation, member: SimulatedMember, copy: Directory, leader: SimulatedMember, then: object
) -> None:
    if member.node is not None and leader.leads and leader.parts is then:
        simulation.trace.note("fault", f"the directory of node {member.id} is set back")
        simulation.plan_restart(member.id, RESTART_S)
        member.halt(power=False)
        member.disk.set_back(copy)
        member.is_rotten = True
        simulation.invariants.set_back(member.id)
        simulation.timeline.after(NOTICED_WITHIN_S, _replace_lost, simulation, member, leader)


def _replace_lost(simulation: Simulation, member: SimulatedMember, leader: SimulatedMember) -> None:
    """Do what its health tells an operator to do; raises Violation if it does not say what is lost."""
    if member.has_lost_entries:
        replace_member(simulation, Fault(at_s=simulation.now, kind=FaultKind.REPLACE, node=member.id))
    elif leader.parts is not None and member.parts is not None:
        progress = leader.parts.raw.status().progress.get(member.id)
        if progress is not None and progress.match > member.parts.raw.last_index:
            raise Violation(
                DURABILITY, f"node {member.id} lacks what it has acknowledged, and does not say so"
            )


def _fail(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    simulation.plan_restart(member.id, fault.duration_s, again_s=fault.again_s)
    member.disk.fail_at(fault.number, errno.EIO)


def _halt_in_disk_call(simulation: Simulation, fault: Fault) -> None:
    member = _member(simulation, fault)
    simulation.plan_restart(member.id, fault.duration_s, again_s=fault.again_s)
    member.disk.halt_at(fault.number, power=fault.power)


def _rot(simulation: Simulation, fault: Fault) -> None:
    """Flip bits while the node is down, so that it reads them when it starts."""
    member = _member(simulation, fault)
    if member.node is not None:
        simulation.plan_restart(member.id, fault.duration_s)
        member.halt(power=fault.power)
    # `files` is no disk call of the node, so it does not trigger a halt planned for one.
    is_here = member.state is ProcessState.DOWN and bool(member.disk.files(Path("/")))
    if is_here and can_lose(simulation, rotten=member.id):
        member.is_rotten = True
        log = DATA_DIR / "wal"
        for _ in range(fault.number):
            below = log if simulation.random.random() < 0.5 and member.disk.files(log) else DATA_DIR
            simulation.trace.note("fault", f"flips {member.disk.flip_bit(below)}")


_STRIKES: Mapping[FaultKind, Strike] = {
    FaultKind.PARTITION: _cut,
    FaultKind.ONE_WAY: _cut,
    FaultKind.RING: _cut,
    FaultKind.LEADER_CUT_OFF: _cut_off,
    FaultKind.BAD_NETWORK: _worsen,
    FaultKind.STRAGGLERS: _hold_up,
    FaultKind.DISCONNECT: _disconnect,
    FaultKind.POWER: _halt,
    FaultKind.POWER_OF_ALL: _halt_all,
    FaultKind.HALT_IN_DISK_CALL: _halt_in_disk_call,
    FaultKind.KILL: _halt,
    FaultKind.STOP: _stop,
    FaultKind.PAUSE: _pause,
    FaultKind.CLONE: _clone,
    FaultKind.STRANGER: _let_stranger_speak,
    FaultKind.CLOCK: _change_clock,
    FaultKind.SLOW_DISK: _slow_down,
    FaultKind.EIO: _fail,
    FaultKind.DISK_FULL: _fill,
    FaultKind.DISK_STAYS_FULL: _fill_for_good,
    FaultKind.BIT_ROT: _rot,
    FaultKind.SET_BACK: _set_back,
    FaultKind.TRANSFER: _transfer,
    FaultKind.JOIN: join,
    FaultKind.REMOVE: remove,
    FaultKind.REPLACE: replace_member,
}
