"""After a schedule: with everything delivered again a cluster of cores has to go on."""

from raftkv_trio.raft.confchange import ConfChangeV2, is_joint
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.progress import ProgressState
from tests.raft.cores import ELECTION_TICKS, Core, Network, adding
from tests.raft.figure_3 import Figure3

#: Within so many election timeouts the cluster has to go on. If only one node of four has a log with which it
#: can be elected, and no pre-vote keeps the others quiet, it is the first to campaign in one of four rounds.
#: So 20 rounds are in vain once in 300 such schedules, and this many once in 30 million.
MAX_ROUNDS = 60


def heal(network: Network, figure_3: Figure3) -> None:
    """With everything delivered, a leader is elected, makes every node a voter, and all apply its log."""
    network.settle()
    for _ in range(MAX_ROUNDS * ELECTION_TICKS):
        network.tick()
        for core in network.cores.values():
            figure_3.check(core)
            take_snapshot(core)  # a new member can only be sent one that it is a member in
            report_lost_snapshots(core)
        leaders = [core for core in network.cores.values() if core.leads]
        newest = max(leaders, key=lambda core: core.raw.term, default=None)
        if newest is not None and _goes_on(network, newest):
            return
    if not _last_word_was_lost(network):
        raise AssertionError("no leader could go on after everything had healed")


def take_snapshot(core: Core) -> None:
    """Keep the state as it is applied now, if that is durable."""
    storage, applied = core.storage, core.raw.applied
    if core.applies or core.raw.raft.log.unstable.snapshot:
        return  # the configuration in force is a later one's
    if applied <= storage.snapshot().index or applied > storage.last_index():
        return
    storage.create_snapshot(applied, core.raw.raft.conf_state, b"")
    hard_state, _ = storage.initial_state()
    storage.set_hard_state(hard_state._replace(commit=max(hard_state.commit, applied)))


def report_lost_snapshots(core: Core) -> None:
    """What a node's streams would tell: what is not on its way any more is lost."""
    for member, progress in core.raw.status().progress.items():
        if progress.state is ProgressState.SNAPSHOT:
            core.raw.report_snapshot(member, ok=False)


def _goes_on(network: Network, leader: Core) -> bool:
    """Propose what is still to be done; whether that was nothing, and a last entry is applied by all."""
    conf, raw, cores = leader.configuration, leader.raw, network.cores
    try:
        if conf.auto_leave:
            raw.propose(b"")  # the leader ends it with the next entry at the latest, as etcd's does
        elif is_joint(conf):
            raw.propose_conf_change(ConfChangeV2())
        elif conf.voters != tuple(sorted(cores)):
            raw.propose_conf_change(adding(*cores))
        else:
            raw.propose(b"after all")
            network.tick(3)
            return leader.leads and all(core.raw.applied == raw.last_index for core in cores.values())
    except ProposalDropped:
        pass  # it hands over, or is removed
    return False


def _last_word_was_lost(network: Network) -> bool:
    """Whether a leader stepped down at its removal and no other node heard that it was committed.

    A configuration is in force when it is applied, as in etcd. So the others still need the vote of the
    removed one, which knows more than they do and refuses it. Hand over first, and it cannot happen.
    """
    cores = network.cores.values()
    able = [core for core in cores if core.raw.raft.promotable]
    return any(
        not core.raw.raft.log.is_up_to_date(other.raw.last_index, other.raw.raft.log.last_term())
        for core in cores
        if core not in able and core.raw.term > 1
        for other in able
    )
