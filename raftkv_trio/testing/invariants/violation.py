"""The names of the invariants, and the error that a violated invariant raises.

The first five names are the paper's (figure 3). The others say what an acknowledgement is worth, and what
must be true of one node's disk.
"""

ELECTION_SAFETY = "Election Safety"
LEADER_APPEND_ONLY = "Leader Append-Only"
LOG_MATCHING = "Log Matching"
LEADER_COMPLETENESS = "Leader Completeness"
STATE_MACHINE_SAFETY = "State Machine Safety"
EQUAL_STATES = "equal states"
ONCE = "applied once at most"
ELECTED = "elected by a quorum"
ONE_CHANGE = "one change at a time"
CONFIGURATION = "the configuration in force"
REMOVED = "removed for good"
ONE_VOTE = "one vote a term"
DURABLE_QUORUM = "durable on a quorum"
DURABILITY = "durability"
ACKNOWLEDGED = "nothing acknowledged lost"
FIRST_PROCESS = "the first process stays"
FRESHNESS = "as fresh as it says"
LINEARIZABILITY = "linearizability"
LEASES = "leases live as long as they must"
WATCHES = "watches tell what is committed"
LOCKS = "a lock has one holder"
LIVENESS = "liveness"


class Violation(AssertionError):
    """An invariant is violated.

    Attributes:
        invariant: its name, one of the constants above.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
