"""A member that is met for the first time while the disk is full."""

import random
from pathlib import Path

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.peers.members import BareMember, connected, in_trouble, running


async def test_a_member_that_cannot_be_remembered_is_met_when_there_is_room(
    addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """Without room its directory id cannot be written down: it is not connected, and tried again later."""
    disk = SimulatedDisk(random.Random(1))
    one, two = BareMember(1, addresses, Path("/data"), disk=disk), BareMember(2, addresses, tmp_path)
    disk.free_bytes = 0
    async with running(one, two):
        await in_trouble(one, 2, "No space left on device")
        assert not one.peers.outgoing[2].outbox.is_open
        assert not two.peers.outgoing[1].outbox.is_open
        assert not one.storage.known_keys
        disk.free_bytes = None
        await connected(one, 2)
        await connected(two, 1)
        assert one.storage.known_keys == {2: key_towards(two.storage.identity.directory_id, 1)}
