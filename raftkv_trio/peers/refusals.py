"""What was refused of other nodes: counted by its reason, and logged in at most one line a second."""

import logging
from collections.abc import Mapping
from enum import StrEnum

from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 1.0


class Refusal(StrEnum):
    """Why something was refused. The values are those of a metric's label."""

    #: A connection: its first frames do not fit, or its node is not known to be a member.
    HANDSHAKE = "handshake"
    #: A connection: what came on it is no frame, or nothing that its node may say.
    PROTOCOL = "protocol"
    #: All others are one message each. Its sender is not known to be a member.
    STRANGER = "stranger"
    #: A term, or an index, that is beyond what is possible.
    TERM = "term"
    INDEX = "index"
    #: An entry, a forwarded command, or the context of a read, that is larger than any can be.
    ENTRY = "entry"
    COMMAND = "command"
    CONTEXT = "context"
    #: A command, in an entry or forwarded, that the state machine of this node could not apply: one of a
    #: newer version of the program.
    NEWER_VERSION = "newer_version"
    #: Only the leader of the present term may say this.
    NOT_LEADER = "not_leader"
    #: Only a voter may say this.
    NOT_VOTER = "not_voter"
    #: It contradicts itself, or this node's log.
    NONSENSE = "nonsense"


class Refusals:
    """What this process has refused of other nodes since its start."""

    def __init__(self, clock: Clock) -> None:
        self._counts = dict.fromkeys(Refusal, 0)
        self._log = LimitedLog(logger, clock.now, LOG_INTERVAL_S, "refused: ")

    @property
    def counts(self) -> Mapping[str, int]:
        """How often, by reason."""
        return {reason.value: count for reason, count in self._counts.items()}

    def count(self, reason: Refusal) -> None:
        """Something was refused, of which its own part tells the log."""
        self._counts[reason] += 1

    def note(self, reason: Refusal, sentence: str) -> None:
        """A message was refused: count it, and log the sentence, or count it until the next line."""
        self.count(reason)
        self._log.note(sentence)
