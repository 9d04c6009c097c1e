"""The log messages of the core: %-formats for `logging`, with ids in hexadecimal.

The texts are those of etcd's raft, so that what is written about them elsewhere helps operators, and so that
the recorded transcripts pin our internal state. An id that is unset is logged as 0.
"""

from raftkv_trio.raft.types import MessageType, StateRole

MESSAGE_NAMES = {
    kind: "Msg" + "".join([part.capitalize() for part in kind.name.split("_")]) for kind in MessageType
}
ROLE_NAMES = {
    StateRole.FOLLOWER: "StateFollower",
    StateRole.CANDIDATE: "StateCandidate",
    StateRole.LEADER: "StateLeader",
    StateRole.PRE_CANDIDATE: "StatePreCandidate",
}
PROPOSAL_DROPPED = "raft proposal dropped"

# elections
BECAME_FOLLOWER = "%x became follower at term %d"
BECAME_CANDIDATE = "%x became candidate at term %d"
BECAME_PRE_CANDIDATE = "%x became pre-candidate at term %d"
BECAME_LEADER = "%x became leader at term %d"
NEW_RAFT = "newRaft %x [peers: [%s], term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]"
NEW_ELECTION = "%x is starting a new election at term %d"
SENT_VOTE_REQUEST = "%x [logterm: %d, index: %d] sent %s request to %x at term %d"
CAST_VOTE = "%x [logterm: %d, index: %d, vote: %x] cast %s for %x [logterm: %d, index: %d] at term %d"
REJECTED_VOTE = (
    "%x [logterm: %d, index: %d, vote: %x] rejected %s from %x [logterm: %d, index: %d] at term %d"
)
IGNORED_VOTE_IN_LEASE = (
    "%x [logterm: %d, index: %d, vote: %x] ignored %s from %x [logterm: %d, index: %d] at term %d: "
    "lease is not expired (remaining ticks: %d)"
)
RECEIVED_VOTE = "%x received %s from %x at term %d"
RECEIVED_VOTE_REJECTION = "%x received %s rejection from %x at term %d"
VOTES_SO_FAR = "%x has received %d %s votes and %d vote rejections"
UNPROMOTABLE = "%x is unpromotable and can not campaign"
UNAPPLIED_CONF_CHANGE = (
    "%x cannot campaign at term %d since there are still pending configuration changes to apply"
)
HUP_WHILE_LEADER = "%x ignoring MsgHup because already leader"
QUORUM_NOT_ACTIVE = "%x stepped down to follower since quorum is not active"

# terms
HIGHER_TERM = "%x [term: %d] received a %s message with higher term from %x [term: %d]"
LOWER_TERM = "%x [term: %d] ignored a %s message with lower term from %x [term: %d]"
LOWER_TERM_APPEND = "%x [term: %d] ignored entry appends from a %s message with lower term [term: %d]"

# leadership transfer
TRANSFER_IN_PROGRESS = (
    "%x [term %d] transfer leadership to %x is in progress, ignores request to same node %x"
)
TRANSFER_ABORTED = "%x [term %d] abort previous transferring leadership to %x"
TRANSFER_TO_SELF = "%x is already leader. Ignored transferring leadership to self"
TRANSFER_TO_LEARNER = "%x is learner. Ignored transferring leadership"
TRANSFER_STARTS = "%x [term %d] starts to transfer leadership to %x"
TRANSFER_UP_TO_DATE = "%x sends MsgTimeoutNow to %x immediately as %x already has up-to-date log"
TRANSFER_CAUGHT_UP = "%x sent MsgTimeoutNow to %x after received MsgAppResp"
TRANSFER_NO_LEADER = "%x no leader at term %d; dropping leader transfer msg"
TIMEOUT_NOW = "%x [term %d] received MsgTimeoutNow from %x and starts an election to get leadership."
TIMEOUT_NOW_IGNORED = "%x [term %d state %s] ignored MsgTimeoutNow from %x"
FORGETTING_LEADER = "%x forgetting leader %x at term %d"
FORGET_LEADER_LEASE_BASED = "ignoring MsgForgetLeader due to ReadOnlyLeaseBased"

# proposals and reads
NO_LEADER_FOR_PROPOSAL = "%x no leader at term %d; dropping proposal"
NOT_FORWARDING_PROPOSAL = "%x not forwarding to leader %x at term %d; dropping proposal"
TRANSFERRING_PROPOSAL = "%x [term %d] transfer leadership to %x is in progress; dropping proposal"
UNCOMMITTED_LIMIT = (
    "%x appending new entries to log would exceed uncommitted entry size limit; dropping proposal"
)
NO_LEADER_FOR_READ = "%x no leader at term %d; dropping index reading msg"

# replication
REJECTED_APPEND = "%x [logterm: %d, index: %d] rejected MsgApp [logterm: %d, index: %d] from %x"
RECEIVED_REJECTION = "%x received MsgAppResp(rejected, hint: (index %d, term %d)) from %x for index %d"
DECREASED_PROGRESS = "%x decreased progress of %x to [%s]"
NO_PROGRESS = "%x no progress available for %x"
UNREACHABLE = "%x failed to send message to %x because it is unreachable [%s]"
FOUND_CONFLICT = "found conflict at index %d [existing term: %d, conflicting term: %d]"
REPLACE_UNSTABLE = "replace the unstable entries from index %d"
TRUNCATE_UNSTABLE = "truncate the unstable entries before index %d"
STABLE_ENTRY_MISSING = "entry at index %d missing from unstable log; ignoring"
STABLE_ENTRY_IN_SNAPSHOT = "entry at index %d matched unstable snapshot; ignoring"
STABLE_ENTRY_MISMATCHED = (
    "entry at (index,term)=(%d,%d) mismatched with entry at (%d,%d) in unstable log; ignoring"
)

# snapshots
SENT_SNAPSHOT = "%x [firstindex: %d, commit: %d] sent snapshot[index: %d, term: %d] to %x [%s]"
PAUSED_FOR_SNAPSHOT = "%x paused sending replication messages to %x [%s]"
SNAPSHOT_TO_INACTIVE = "ignore sending snapshot to %x since it is not recently active"
SNAPSHOT_UNAVAILABLE = "%x failed to send snapshot to %x because snapshot is temporarily unavailable"
SNAPSHOT_SUCCEEDED = "%x snapshot succeeded, resumed sending replication messages to %x [%s]"
SNAPSHOT_FAILED = "%x snapshot failed, resumed sending replication messages to %x [%s]"
SNAPSHOT_RECOVERED = "%x recovered from needing snapshot, resumed sending replication messages to %x [%s]"
LOG_RESTORES = "log [%s] starts to restore snapshot [index: %d, term: %d]"
RESTORED_CONFIGURATION = (
    "%x [commit: %d, lastindex: %d, lastterm: %d] restored snapshot [index: %d, term: %d]"
)
FAST_FORWARDED = (
    "%x [commit: %d, lastindex: %d, lastterm: %d] fast-forwarded commit to snapshot [index: %d, term: %d]"
)
SNAPSHOT_WITHOUT_US = (
    "%x attempted to restore snapshot but it is not in the ConfState %s; should never happen"
)
RESTORED_SNAPSHOT = "%x [commit: %d] restored snapshot [index: %d, term: %d]"
IGNORED_SNAPSHOT = "%x [commit: %d] ignored snapshot [index: %d, term: %d]"

# configuration
SWITCHED_CONFIGURATION = "%x switched to configuration %s"
IGNORED_CONF_CHANGE = "%x ignoring conf change %s at config %s: %s"
AUTO_LEAVE = "initiating automatic transition out of joint configuration %s"
AUTO_LEAVE_NOT_YET = "not initiating automatic transition out of joint configuration %s: %s"
