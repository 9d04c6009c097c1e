"""The core's errors, all under `RaftError`: misuse of its interface, a peer's nonsense, or a log that ends.

Whatever raises leaves the core's state as it was before the call.
"""

from raftkv_trio.errors import RaftError


class ProposalDropped(RaftError):
    """A proposal was not appended and never will be; the subclasses say why."""


class LeaderUnknown(ProposalDropped):
    """This node neither leads nor knows who does."""


class ForwardingDisabled(ProposalDropped):
    """This node does not lead, and its configuration forbids to forward."""


class TransferInProgress(ProposalDropped):
    """The leader is handing over; a proposal now would keep the successor behind."""


class UncommittedLimit(ProposalDropped):
    """Too many bytes of the leader's log are not committed yet (`Config.max_uncommitted_bytes`)."""


class NotAMember(ProposalDropped):
    """The leader has been removed from the configuration."""


class StepError(RaftError):
    """A message was refused; the subclasses say why."""


class LocalMessage(StepError):
    """A kind of message that never leaves a node came from the network."""


class PeerNotFound(StepError):
    """A response from a node that is not in this node's configuration (any more); safe to ignore."""


class InvalidMessage(StepError):
    """A message contradicts itself, or what this node knows to be committed."""


class InvalidConfiguration(RaftError):
    """A configuration, or a change of one, breaks the rules of joint consensus."""


class InvalidState(RaftError):
    """What storage or the driver says does not fit this log: an index beyond its end or before its start."""


class LogError(RaftError):
    """Storage cannot answer; the subclasses say why."""


class Compacted(LogError):
    """The index lies before the first entry that storage still has."""


class Unavailable(LogError):
    """The index lies after the last entry that storage has."""


class SnapshotTemporarilyUnavailable(LogError):
    """The snapshot is being made; ask again later."""


class SnapshotOutOfDate(LogError):
    """A snapshot older than the one that storage has."""
