"""Bytes that a hostile member sends: refused before the node makes anything of them."""

import random
import struct
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import trio

from raftkv_trio import Node, NodeConfig, run_node
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, ConfChangeV2, conf_change_entry
from raftkv_trio.raft.types import Entry, EntryType, HardState, MessageType
from raftkv_trio.storage import OsDisk
from tests.conftest import find_free_ports
from tests.machines import Commands
from tests.peers.hostile import PATIENCE_S, besieged
from tests.test_strict_cbor import colliding, empty_lists

pytestmark = pytest.mark.usefixtures("security")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(colliding(20_000), "not valid CBOR"), (empty_lists(197_000), "more than 196608 items")],
    ids=["keys that collide", "many items"],
)
async def test_a_frame_that_is_costly_to_decode_ends_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, payload: bytes, reason: str
) -> None:
    """The log says why; the node goes on, and starts again."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        async with siege.member(to=1).speaking() as stream:
            await stream.send(struct.pack(">II", len(payload), crc32(payload)) + payload)
            await stream.wait_closed()
        await siege.until(lambda: reason in caplog.text)
        await siege.check_unharmed(terms=terms)
        await siege.check_starts_again()


PROPOSAL = encode_proposal(ProposalId(3, 1, 1), b"command")


def of_request(change: MemberChange) -> ConfChangeV2:
    return ChangeRequest((change,)).conf_change(ProposalId(3, 1, 1))


ADD_5 = of_request(MemberChange(Action.ADD, 5, PeerAddress("127.0.0.1", 1)))


UNFIT_ENTRIES = {
    "no proposal": Entry(0, 0, data=b"?"),
    "a proposal of another version": Entry(0, 0, data=b"\x02" + PROPOSAL[1:]),
    "no conf change": Entry(0, 0, EntryType.CONF_CHANGE_V2, b"?"),
    "a conf change of no request": conf_change_entry(
        ConfChangeV2((ConfChangeSingle(ConfChangeType.REMOVE, 2),))
    ),
    "a conf change without a request": conf_change_entry(ADD_5._replace(context=PROPOSAL)),
    "another conf change than the request's": conf_change_entry(ADD_5._replace(changes=())),
}


async def test_entries_that_cannot_be_applied_are_refused_before_the_log_has_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A member that claims to lead sends them, as committed: in the log they would end each start."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        target = await siege.follower()
        peer = siege.member(to=target.config.node_id)
        for entry in UNFIT_ENTRIES.values():
            status = target.running.status()
            term, index = status.term, status.commit_index
            sent = Entry(0, 0, data=PROPOSAL), entry  # the first one could be applied
            entries = tuple([replace(e, term=term + 1, index=i) for i, e in enumerate(sent, start=index + 1)])
            commit = entries[-1].index
            append = peer.message(
                MessageType.APP, term=term + 1, log_term=term, index=index, entries=entries, commit=commit
            )
            async with peer.speaking() as stream:
                await stream.say(append)
                await stream.wait_closed()
            await siege.check_unharmed(terms=terms)
        assert "cannot be applied" in caplog.text
        await siege.check_starts_again()


async def test_a_committed_change_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """A log that a hostile leader has written so far does not end the node: all nodes ignore the change."""
    (port,) = find_free_ports(1)
    config = NodeConfig(
        node_id=1, members={1: PeerAddress("127.0.0.1", port)}, data_dir=tmp_path / "1", tick_interval_s=0.01
    )
    unfit = [
        ConfChangeV2(),  # leaves a joint configuration, and there is none
        ChangeRequest((MemberChange(Action.REMOVE, 1),)).conf_change(ProposalId(3, 1, 1)),
        ChangeRequest((MemberChange(Action.UPDATE, 7, PeerAddress("h", 1)),)).conf_change(
            ProposalId(3, 1, 2)
        ),
    ]
    entries = [replace(conf_change_entry(c), term=1, index=i) for i, c in enumerate(unfit, start=2)]
    storage = open_directory(OsDisk(), config, random.Random(1))
    storage.append(HardState(1, None, entries[-1].index), entries)
    storage.close(clean=True)
    machine = Commands()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            node: Node = await nursery.start(run_node, config, machine)
            await node.propose(b"command")
            assert [member.id for member in node.members()] == [1]
            nursery.cancel_scope.cancel()
    assert machine.commands == [b"command"]
