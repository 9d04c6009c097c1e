"""The errors of this package. All of them, also those that other modules define, are a `RaftKVError`.

Each branch of the tree says what an error ends and who has to act:
- `ConfigError`: nothing was started or changed; the operator corrects the configuration.
- `ProposalError`: one write or read; its caller decides.
- `PeerProtocolError`: one connection between members.
- `StorageError`: the node.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The errors inside an exception group, nested groups included; the error itself if it is no group.

    Trio raises groups from every nursery, so code that decides by an error's type looks at the leaves.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    elif error is not None:
        yield error


class RaftKVError(Exception):
    """Base of all errors of this package; its text is one sentence that tells what to do."""


class ConfigError(RaftKVError):
    """A configuration, a Procfile or a data directory is wrong; nothing was started or changed.

    The text has the names of configuration fields in backticks. The command line replaces them by its flags.
    """

    @property
    def fields(self) -> tuple[str, ...]:
        """The configuration fields that the text names, in its order."""
        return tuple(re.findall(r"`(\w+)`", str(self)))


class ProposalError(RaftKVError):
    """A proposal or a read ended without a result."""


class NoLeader(ProposalError):
    """The node stopped, or the caller gave up, before a leader took it; certainly not applied."""


class Overloaded(ProposalError):
    """Too much waits, or is under way, already; certainly not applied."""


class TooLarge(ProposalError):
    """The command is larger than allowed; certainly not applied."""


class CommandRefused(ProposalError):
    """The state machine of this node could not apply the command; certainly not applied."""


class DiskFull(ProposalError):
    """The disk has no room for the log; certainly not applied."""


class StoreFull(ProposalError):
    """The store has reached its quota; certainly not applied."""


class RequestIdReused(ProposalError):
    """The id of a request names another one, or one whose result is gone; certainly not applied now."""


class ChangeRefused(ProposalError):
    """The change of members is not possible, or not safe now; certainly not applied."""


class NoSuchMember(ChangeRefused):
    """The change is of a node that is not a member; certainly not applied."""


class OutcomeUnknown(ProposalError):
    """The deadline passed or the node stopped after the proposal was sent: it may or may not be applied."""


class SnapshotNotTaken(RaftKVError):
    """There was no room for a snapshot; the node goes on without it."""


class TransferFailed(RaftKVError):
    """Leadership was not transferred as it was asked for; another node may lead all the same."""


class MalformedRequest(RaftKVError):
    """A client's request cannot be read; nothing was done."""


class SlowRequest(RaftKVError):
    """A client's request did not arrive in time; nothing was done."""


class DecodeError(RaftKVError):
    """Bytes are not of the form that was expected.

    Whoever knows where the bytes come from turns it into what that ends: a connection (PeerProtocolError), a
    proposal, or the node (CorruptLog).
    """


class PeerProtocolError(RaftKVError):
    """A peer sent something that the protocol does not allow; ends that connection and nothing else."""


class DirectoryRefused(PeerProtocolError):
    """A peer remembers another data directory of this member: this one has forgotten its votes."""


class SecondProcessRefused(PeerProtocolError):
    """A peer knows another process that runs under this node's id, and answers."""


class RemovedFromCluster(PeerProtocolError):
    """A peer says that this node was removed from the cluster.

    Attributes:
        index: of the entry that removed it.
    """

    def __init__(self, sentence: str, index: int) -> None:
        super().__init__(sentence)
        self.index = index


class NodeRemoved(RaftKVError):
    """This node was removed from its cluster; it has shut down cleanly."""


class RaftError(RaftKVError):
    """Base of the consensus core's errors: misuse of its interface, or a message that no peer may send."""


class StorageError(RaftKVError):
    """The data directory cannot be used any more; ends the node, which acknowledges nothing after it."""


class UpgradeNeeded(StorageError):
    """A newer version of this program has written what this node must read, so this node ends.

    To skip it, or to call it wrong, would be a silent fork: the upgraded members carry it out.

    Attributes:
        version: of what cannot be read.
        known: the highest version that this program reads.

    Args:
        of: what the two are the numbers of.
    """

    def __init__(self, what: str, version: int, known: int, of: str = "version") -> None:
        super().__init__(
            f"{what} of {of} {version}; this program knows {of}s up to {known}: upgrade this node to"
            " the version of raftkv-trio that the other members run"
        )
        self.version = version
        self.known = known


def remedy(directory: Path | None) -> str:
    """What to do about a `CorruptLog` in this data directory, as the end of a sentence."""
    name = "DIR" if directory is None else shlex.quote(str(directory))
    return (
        f"repair it from the other members' directories, here DIR2 and DIR3, with `raftkv-trio check {name}"
        " --repair --with DIR2 --with DIR3`, or remove this node from the cluster and add it under a new id"
    )


class CorruptLog(StorageError):
    """Bytes in the data directory do not verify; the text names file and offset and says what to do.

    Attributes:
        file: the damaged file; None if the damage is not in a single file.
        offset: the first byte that does not verify; None if there is no such place.
    """

    def __init__(self, sentence: str, file: Path | None = None, offset: int | None = None) -> None:
        super().__init__(sentence)
        self.file = file
        self.offset = offset

    @classmethod
    def at(cls, file: Path, offset: int) -> "CorruptLog":
        """The error for a file of a data directory that does not verify from `offset` on."""
        directory = file.parent.parent if file.parent.name in ("wal", "snap") else file.parent
        return cls(f"{file} is corrupt at offset {offset}: {remedy(directory)}", file, offset)
