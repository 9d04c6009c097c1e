"""A rolling upgrade: a node that meets a command of a newer version ends until it is upgraded."""

from contextlib import suppress
from pathlib import Path

import cbor2
import pytest
import trio

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import OutcomeUnknown, UpgradeNeeded, leaves
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from tests.conftest import find_free_ports

OF_VERSION_3 = cbor2.dumps([3, [], [], [], "what version 3 adds"])


async def run(config: NodeConfig, store: Store, commands: list[bytes]) -> UpgradeNeeded:
    """Run a node, propose these to it one after the other, and return the error with which it ends."""

    async def propose_all() -> None:
        async with trio.open_nursery() as nursery:
            node: Node = await nursery.start(run_node, config, store)
            for command in commands:
                with suppress(OutcomeUnknown):
                    await node.propose(command)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await propose_all()
    (error,) = leaves(caught.value)
    assert isinstance(error, UpgradeNeeded)
    return error


async def test_it_ends_the_node_again_and_again(tmp_path: Path) -> None:
    """The node applies what comes before and ends with a sentence that says why, also after a restart."""
    (port,) = find_free_ports(1)
    config = NodeConfig(
        node_id=1,
        members=parse_cluster(f"http://127.0.0.1:{port}"),
        data_dir=tmp_path / "1",
        tick_interval_s=0.01,
    )
    before = encode_txn(Txn(success=(Put(b"/before", b"v"),)))
    for commands in [before, OF_VERSION_3], []:
        store = Store()
        with trio.fail_after(10):
            error = await run(config, store, commands)
        assert str(error) == (
            "entry 4 holds a command of version 3; this program knows versions up to 2: upgrade this node to"
            " the version of raftkv-trio that the other members run"
        )
        assert [record.key for record in store.range(b"/")] == [b"/before"]
