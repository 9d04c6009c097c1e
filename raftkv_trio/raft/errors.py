"""The core's errors, all under `RaftError`: misuse of its interface, nonsense of a peer, limits of the log.

A call that raises leaves the core's state as it was before the call.
"""

from raftkv_trio.errors import RaftError


class ProposalDropped(RaftError):
    """A proposal was not appended and never will be; the subclasses say why."""


class LeaderUnknown(ProposalDropped):
    """This node does not lead, and knows no leader."""


class ForwardingDisabled(ProposalDropped):
    """This node does not lead, and its configuration forbids forwarding."""


class TransferInProgress(ProposalDropped):
    """The leader is transferring its leadership. New entries would keep the next leader behind."""


class UncommittedLimit(ProposalDropped):
    """Too many bytes of proposals are not applied yet (`Config.max_uncommitted_bytes`)."""


class NotAMember(ProposalDropped):
    """The leader has been removed from the configuration."""


class StepError(RaftError):
    """A message was refused; the subclasses say why."""


class LocalMessage(StepError):
    """A message of a kind that never leaves a node came from another node."""


class PeerNotFound(StepError):
    """A response from a node that is not, or no longer, in this node's configuration; safe to ignore."""


class InvalidMessage(StepError):
    """A message contradicts itself, or what this node knows to be committed."""


class AcknowledgedEntriesLost(InvalidMessage):
    """The leader knows that this node had acknowledged entries which its log does not have.

    Attributes:
        acknowledged: an index that this node has acknowledged in this term.
        last_index: where its log ends.
    """

    def __init__(self, leader: int, acknowledged: int, last_index: int) -> None:
        super().__init__(
            f"node {leader} says that this node has acknowledged entry {acknowledged}, but its log ends at"
            f" {last_index}: acknowledged entries are lost"
        )
        self.acknowledged = acknowledged
        self.last_index = last_index


class InvalidConfiguration(RaftError):
    """A configuration, or a change of one, breaks the rules of joint consensus."""


class InvalidState(RaftError):
    """Storage or the driver contradicts this log, or the driver breaks the Ready contract."""


class LogError(RaftError):
    """Storage cannot answer; the subclasses say why."""


class Compacted(LogError):
    """The index lies before the first entry that storage still has."""


class Unavailable(LogError):
    """The index lies after the last entry that storage has."""


class SnapshotTemporarilyUnavailable(LogError):
    """The snapshot is being made; ask again later."""


class SnapshotOutOfDate(LogError):
    """The snapshot is older than the one that storage has."""
