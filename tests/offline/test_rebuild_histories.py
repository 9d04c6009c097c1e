"""Random histories of whole clusters on their disks, then damage: who starts keeps what Raft promises."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.types import HardState
from raftkv_trio.storage import NodeStorage
from raftkv_trio.storage.record import HEADER_BYTES, decode_header
from raftkv_trio.storage.segments import list_segments
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.offline.test_rebuild_log import home, is_refused, mended, reopen
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap
from tests.raft.figure_3 import Figure3


class OnDisks(Network):
    """Cores whose writes go to data directories too."""

    def __init__(self, voters: Sequence[int], disk: SimulatedDisk) -> None:
        super().__init__(snapshot=bootstrap(voters))
        self.storages: dict[int, NodeStorage] = {i: reopen(disk, i, voters) for i in voters}
        self.last_won = 1

    def write(self, *node_ids: int) -> None:
        for node_id in node_ids or self.cores:
            core = self.cores[node_id]
            while core.writes:
                message = core.writes[0]
                hard_state = HardState(message.term, message.vote, message.commit) if message.term else None
                self.storages[node_id].append(hard_state, message.entries)
                self.wire += core.write()
            if core.leads:
                self.last_won = max(self.last_won, core.raw.term)


def live(network: OnDisks, rng: random.Random, figure_3: Figure3) -> None:
    """Elections, proposals and partitions, with messages, and writes, that come late or never."""
    nodes = list(network.cores)
    for step in range(rng.randrange(10, 60)):
        node_id = rng.choice(nodes)
        match rng.choice(["campaign", "propose", "propose", "isolate", "heal", "work", "work", "settle"]):
            case "campaign":
                for core in network.cores.values():
                    core.raw.raft.election_elapsed = ELECTION_TICKS
                network[node_id].raw.campaign()
            case "propose":
                for core in network.cores.values():
                    if core.leads:
                        try:
                            core.raw.propose(b"%d" % step * rng.randrange(1, 90))
                        except ProposalDropped:
                            pass  # it hands over just now
            case "isolate":
                network.isolated = set(rng.sample(nodes, rng.randrange(1, len(nodes) // 2 + 1)))
            case "heal":
                network.isolated = set()
            case "work":
                network.hand_out()
                network.write(*rng.sample(nodes, rng.randrange(1, len(nodes))))
                for _ in range(rng.randrange(len(network.wire) + 1)):
                    network.deliver(network.wire.popleft())
            case "settle":
                network.settle()
        for core in network.cores.values():
            figure_3.check(core)


def record_places(disk: SimulatedDisk, node_id: int) -> list[tuple[Path, int, int]]:
    """File, offset and length of every record of a log."""
    directory = home(node_id) / "wal"
    files = disk.files(directory)
    places = []
    for name in list_segments(disk, directory):
        data, offset = files[directory / str(name)], 0
        while header := decode_header(data, offset):
            places.append((directory / str(name), offset, HEADER_BYTES + header.length))
            offset += header.record_bytes
    return places


def damage(disk: SimulatedDisk, node_id: int, rng: random.Random) -> bool:
    """Flip a bit in some records; whether the last one is among them."""
    places = record_places(disk, node_id)
    chosen = rng.sample(range(len(places)), min(rng.choice([1, 1, 2, 5]), len(places)))
    if rng.random() < 0.4:
        chosen.append(len(places) - 1)
    for number in set(chosen):
        path, offset, length = places[number]
        file = disk.open(path)
        at = offset + rng.randrange(length)
        (byte,) = file.read_at(at, 1)
        file.write_at(at, bytes([byte ^ 1 << rng.randrange(8)]))
        file.close()
    return len(places) - 1 in chosen


def go_on(disk: SimulatedDisk, voters: Sequence[int], started: Sequence[int], figure_3: Figure3) -> None:
    """Those that start elect a leader, if they are a majority, and agree on more."""
    network = Network(snapshot=bootstrap(voters), members=started)
    for node_id in started:
        storage = reopen(disk, node_id, voters)
        network.add(node_id, storage.take_entries(), storage.hard_state)
        storage.close(clean=True)
        figure_3.check(network[node_id])
    for _ in range(20 * ELECTION_TICKS):
        network.tick()
        for core in network.cores.values():
            figure_3.check(core)
    if len(started) > len(voters) // 2:
        network.propose(network.leader.id, b"more")
        assert all(core.data[-1:] == [b"more"] for core in network.cores.values())
        for core in network.cores.values():
            figure_3.check(core)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.long)])
def test_no_history_and_no_damage_breaks_a_promise(seeds: range) -> None:
    """The members that start go on as if nothing had happened; one that was damaged alone always starts."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        disk, figure_3 = SimulatedDisk(random.Random(seed)), Figure3()
        voters = range(1, rng.choice([3, 3, 5]) + 1)
        network = OnDisks(voters, disk)
        live(network, rng, figure_3)
        votes = {i: storage.hard_state[:2] for i, storage in network.storages.items()}
        for storage in network.storages.values():
            storage.close(clean=rng.random() < 0.5)
        damaged = rng.sample(voters, rng.choice([1, 1, 2, len(voters)]))
        lost_end = {node_id: damage(disk, node_id, rng) for node_id in damaged}
        refused = set()
        for node_id in damaged:
            others = [other for other in voters if other != node_id]
            if is_complete := rng.random() < 0.8:
                rng.shuffle(others)
            else:
                others = rng.sample(others, rng.randrange(1, len(others)))
            try:
                mended(disk, node_id, *others)
            except ConfigError:
                assert is_refused(disk, node_id)
                assert len(damaged) > 1 or not is_complete, f"seed {seed}"
                refused.add(node_id)
                continue
            storage = reopen(disk, node_id, voters)
            term, vote = storage.hard_state[:2]
            storage.close(clean=True)
            assert (term, vote) == votes[node_id] or (
                term >= network.last_won and vote == node_id
                if lost_end[node_id]
                else term > votes[node_id][0] and vote is None
            ), f"seed {seed}"
        if started := [node_id for node_id in voters if node_id not in refused]:
            go_on(disk, voters, started, figure_3)
        counts["histories"] += 1
        counts["members damaged"] += len(damaged)
        counts["of these at the end"] += sum(lost_end.values())
        counts["refused"] += len(refused)
    print(dict(counts))
    assert counts["refused"]
    assert counts["members damaged"] - counts["refused"] > len(seeds) // 2
