"""Every error that this package raises on purpose, in one tree.

The tree says who must act: a `ConfigError` is the operator's, a `ProposalError` is the caller's, a
`PeerProtocolError` ends one connection, a `StorageError` ends the node.
"""

import re
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
    """Base of all errors of this package; its text is one sentence a user can act on."""


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
    """No leader was known in time; certainly not applied."""


class Overloaded(ProposalError):
    """Too much is waiting already; certainly not applied."""


class TooLarge(ProposalError):
    """The command is over the limit; certainly not applied."""


class DiskFull(ProposalError):
    """No room for the log; certainly not applied."""


class ChangeRefused(ProposalError):
    """The members cannot be changed so; certainly not applied."""


class NoSuchMember(ChangeRefused):
    """A change of a node that is no member; certainly not applied."""


class OutcomeUnknown(ProposalError):
    """The deadline passed, or the node stops, after the proposal left: it may or may not be applied."""


class MalformedRequest(RaftKVError):
    """A client's request cannot be read; nothing was done."""


class SlowRequest(RaftKVError):
    """A client's request did not arrive in time; nothing was done."""


class PeerProtocolError(RaftKVError):
    """A peer said something that the protocol does not allow; ends that connection and nothing else."""


class DirectoryRefused(PeerProtocolError):
    """A peer knows this member by another data directory."""


class RemovedFromCluster(PeerProtocolError):
    """A peer says that this node was removed, at `index`."""

    def __init__(self, sentence: str, index: int) -> None:
        super().__init__(sentence)
        self.index = index


class NodeRemoved(RaftKVError):
    """This node was removed from its cluster, which is how a node's life ends well."""


class RaftError(RaftKVError):
    """Base of the consensus core's errors: misuse of its interface, or a peer's nonsense."""


class StorageError(RaftKVError):
    """The data directory cannot be used any more; ends the node, and nothing is acknowledged after it."""


#: What to do about a `CorruptLog`, as the end of a sentence.
REMEDY = (
    "repair it from the other members' directories with `raftkv-trio check --repair --with`, or remove"
    " this node from the cluster and add it under a new id"
)


class CorruptLog(StorageError):
    """Bytes in the data directory do not verify; the text names file and offset and says what to do.

    Attributes:
        file, offset: where, in bytes; None where no single place is to blame.
    """

    def __init__(self, sentence: str, file: Path | None = None, offset: int | None = None) -> None:
        super().__init__(sentence)
        self.file = file
        self.offset = offset

    @classmethod
    def at(cls, file: Path, offset: int) -> "CorruptLog":
        """The error for a file that does not verify from `offset` on."""
        return cls(f"{file} is corrupt at offset {offset}: {REMEDY}", file, offset)
