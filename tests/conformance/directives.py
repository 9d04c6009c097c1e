"""The directives of the interaction transcripts: their words and options, and what they call."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from raftkv_trio.raft.confchange import ConfChange, ConfChangeV2, Transition, all_voters
from raftkv_trio.raft.config import Config, ReadOnlyOption
from raftkv_trio.raft.texts import MESSAGE_NAMES, ROLE_NAMES
from raftkv_trio.raft.types import ConfState, Message, MessageType, Snapshot
from tests.conformance.describe import describe_message, parse_changes
from tests.conformance.interaction import ELECTION_TICKS, NO_LIMIT, Cluster
from tests.conformance.transcript import Case

_KINDS = {name: kind for kind, name in MESSAGE_NAMES.items()}
_BOOLEANS = {"true": True, "false": False}


class Interaction:
    """Plays the cases of one file in one cluster."""

    def __init__(self) -> None:
        self._cluster = Cluster()

    def handle(self, case: Case) -> str:
        play = _DIRECTIVES.get(case.directive)
        if play is None:
            raise case.error("unknown directive")
        case.only(input_lines=1 if case.directive == "propose-conf-change" else 0)
        with self._cluster.reporting_errors():
            play(self._cluster, case)
        return self._cluster.output.take()


# ---------------------------------------------------------------- arguments


def _one(case: Case, values: tuple[str, ...]) -> str:
    if len(values) != 1:
        raise case.error(f"one value belongs where {values} stands")
    return values[0]


def _option(case: Case, key: str) -> str | None:
    """The only option of a directive; None if it is left out."""
    values = case.options(key).get(key)
    return None if values is None else _one(case, values)


def _node_ids(case: Case, least: int, most: int | None = None) -> list[int]:
    return [int(word) for word in case.words(least, most)]


def _node_id(case: Case) -> int:
    """The only argument."""
    case.options()
    return _node_ids(case, 1, 1)[0]


def _pair(case: Case) -> tuple[int, int]:
    """The only two arguments."""
    case.options()
    first, second = _node_ids(case, 2, 2)
    return first, second


# ---------------------------------------------------------------- nodes

_CONFIG_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "inflight": ("max_inflight_messages", int),
    "async-storage-writes": ("async_storage_writes", _BOOLEANS.__getitem__),
    "prevote": ("pre_vote", _BOOLEANS.__getitem__),
    "checkquorum": ("check_quorum", _BOOLEANS.__getitem__),
    "max-committed-size-per-ready": ("max_committed_bytes_per_ready", int),
    "disable-conf-change-validation": ("disable_conf_change_validation", _BOOLEANS.__getitem__),
    "read-only": ("read_only", ReadOnlyOption),
    "step-down-on-removal": ("step_down_on_removal", _BOOLEANS.__getitem__),
}


def _add_nodes(cluster: Cluster, case: Case) -> None:
    options = case.options("voters", "learners", "index", "content", *_CONFIG_OPTIONS)
    settings: dict[str, Any] = {
        "election_ticks": ELECTION_TICKS,
        "heartbeat_ticks": 1,
        "max_message_bytes": NO_LIMIT,
        "max_inflight_messages": NO_LIMIT,
        "pre_vote": False,
        "check_quorum": False,
        "durable_campaigns": False,
        "votes_tell_commit": False,
        "durable_conf_changes": False,
        "space_probes": False,
        "step_down_on_removal": False,
    }
    for key, (name, parse) in _CONFIG_OPTIONS.items():
        if key in options:
            settings[name] = parse(_one(case, options[key]))
    snapshot = Snapshot()
    if not options.keys().isdisjoint(("voters", "learners", "index", "content")):
        conf_state = ConfState(
            voters=tuple(map(int, options.get("voters", ()))),
            learners=tuple(map(int, options.get("learners", ()))),
        )
        index = int(_one(case, options.get("index", ("0",))))
        if index <= 1:
            cluster.output.error("index must be specified as > 1 due to bootstrap")
            return
        content = _one(case, options.get("content", ("",))).encode()
        snapshot = Snapshot(index, 1, conf_state, content)
        settings["applied"] = index
    (count,) = case.words(1, 1)
    for _ in range(int(count)):
        cluster.add_node(snapshot, partial(Config, **settings))


def _propose(cluster: Cluster, case: Case) -> None:
    case.options()
    node_id, data = case.words(2, 2)
    cluster.node(int(node_id)).raw.propose(data.encode())


def _propose_conf_change(cluster: Cluster, case: Case) -> None:
    options = case.options("v1", "transition")
    (node_id,) = _node_ids(case, 1, 1)
    transition = Transition[_one(case, options.get("transition", ("auto",))).upper()]
    changes = parse_changes(case.input[0] if case.input else "")
    change: ConfChange | ConfChangeV2 = ConfChangeV2(changes, transition)
    if _BOOLEANS[_one(case, options.get("v1", ("false",)))]:
        if len(changes) != 1 or transition is not Transition.AUTO:
            cluster.output.error("v1 conf change can only have one operation and no transition")
            return
        change = ConfChange(*changes[0])
    cluster.node(node_id).raw.propose_conf_change(change)


def _tick(cluster: Cluster, case: Case, ticks: int) -> None:
    raw = cluster.node(_node_id(case)).raw
    for _ in range(ticks):
        raw.tick()


def _campaign(cluster: Cluster, case: Case) -> None:
    cluster.node(_node_id(case)).raw.campaign()


def _forget_leader(cluster: Cluster, case: Case) -> None:
    cluster.node(_node_id(case)).raw.forget_leader()


def _transfer_leadership(cluster: Cluster, case: Case) -> None:
    case.words(0, 0)
    options = case.options("from", "to")
    leader_id, target_id = (int(_one(case, options[key])) for key in ("from", "to"))
    cluster.node(leader_id).raw.transfer_leader(target_id)


def _report_unreachable(cluster: Cluster, case: Case) -> None:
    node_id, peer_id = _pair(case)
    cluster.node(node_id).raw.report_unreachable(peer_id)


def _send_snapshot(cluster: Cluster, case: Case) -> None:
    sender, receiver = _pair(case)
    node = cluster.node(sender)
    message = Message(
        type=MessageType.SNAP,
        to=receiver,
        from_=sender,
        term=node.raw.term,
        snapshot=node.storage.snapshot(),
    )
    cluster.messages.append(message)
    cluster.output.write(describe_message(message))


def _compact(cluster: Cluster, case: Case) -> None:
    node_id, index = _pair(case)
    cluster.node(node_id).storage.compact(index)
    cluster.print_log(node_id)


def _set_randomized_election_timeout(cluster: Cluster, case: Case) -> None:
    (node_id,) = _node_ids(case, 1, 1)
    ticks = int(_one(case, case.options("timeout")["timeout"]))
    cluster.node(node_id).raw.raft.randomized_election_ticks = ticks


# ---------------------------------------------------------------- steps


def _process_ready(cluster: Cluster, case: Case) -> None:
    case.options()
    cluster.for_each(_node_ids(case, 1), "handling Ready", cluster.process_ready)


def _process_append_thread(cluster: Cluster, case: Case) -> None:
    case.options()
    cluster.for_each(_node_ids(case, 1), "processing append thread", cluster.process_append_thread)


def _process_apply_thread(cluster: Cluster, case: Case) -> None:
    case.options()
    cluster.for_each(_node_ids(case, 1), "processing apply thread", cluster.process_apply_thread)


def _deliver_msgs(cluster: Cluster, case: Case) -> None:
    options = case.options("type", "drop")
    kind = _KINDS[_one(case, options["type"])] if "type" in options else None
    receivers: dict[int, Callable[[int, MessageType | None], int]] = {}
    for key, values in case.arguments:  # in this order, whether delivered or dropped
        step = cluster.deliver if values is None else cluster.drop
        for word in (key,) if values is None else values if key == "drop" else ():
            if receivers.setdefault(int(word), step) != step:
                raise case.error(f"messages to {word} cannot be both delivered and dropped")
    if not sum([step(node_id, kind) for node_id, step in receivers.items()]):
        cluster.output.write("no messages\n")


def _stabilize(cluster: Cluster, case: Case) -> None:
    level, before = _option(case, "log-level"), cluster.output.level
    if level is not None:
        cluster.output.set_level(level)
    try:
        cluster.stabilize(_node_ids(case, 0) or range(1, len(cluster.nodes) + 1))
    finally:
        cluster.output.level = before


# ---------------------------------------------------------------- looking


def _log_level(cluster: Cluster, case: Case) -> None:
    case.options()
    cluster.output.set_level(case.words(1, 1)[0])


def _raft_log(cluster: Cluster, case: Case) -> None:
    cluster.print_log(_node_id(case))


def _raft_state(cluster: Cluster, case: Case) -> None:
    case.options()
    case.words(0, 0)
    for node in cluster.nodes:
        status = node.raw.status()
        voter = "Voter" if status.id in all_voters(status.configuration) else "Non-Voter"
        role, lead = ROLE_NAMES[status.role], status.leader_id or 0
        cluster.output.write(f"{status.id}: {role} ({voter}) Term:{status.term} Lead:{lead}\n")


def _status(cluster: Cluster, case: Case) -> None:
    for member, progress in cluster.node(_node_id(case)).raw.status().progress.items():
        cluster.output.write(f"{member}: {progress.text}\n")


def _nothing(cluster: Cluster, case: Case) -> None:
    """`_breakpoint`: a place for a debugger."""


_DIRECTIVES: Mapping[str, Callable[[Cluster, Case], None]] = {
    "_breakpoint": _nothing,
    "add-nodes": _add_nodes,
    "campaign": _campaign,
    "compact": _compact,
    "deliver-msgs": _deliver_msgs,
    "forget-leader": _forget_leader,
    "log-level": _log_level,
    "process-append-thread": _process_append_thread,
    "process-apply-thread": _process_apply_thread,
    "process-ready": _process_ready,
    "propose": _propose,
    "propose-conf-change": _propose_conf_change,
    "raft-log": _raft_log,
    "raft-state": _raft_state,
    "report-unreachable": _report_unreachable,
    "send-snapshot": _send_snapshot,
    "set-randomized-election-timeout": _set_randomized_election_timeout,
    "stabilize": _stabilize,
    "status": _status,
    "tick-election": partial(_tick, ticks=ELECTION_TICKS),
    "tick-heartbeat": partial(_tick, ticks=1),
    "transfer-leadership": _transfer_leadership,
}
