"""What must hold of a cluster, by name; and what is raised where it does not.

The names of the first five are the paper's (figure 3); the others are what an acknowledgement is worth, and
what must be true of one node's disk.
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
LINEARIZABILITY = "linearizability"
LIVENESS = "liveness"


class Violation(AssertionError):
    """Something that must hold does not.

    Attributes:
        invariant: its name.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
