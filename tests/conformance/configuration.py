"""One node's configuration, changed: the environment of the confchange transcripts."""

from collections.abc import Mapping

from raftkv_trio.raft.confchange import Changed, describe, enter_joint, leave_joint, simple
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.tracker import Tracker
from tests.conformance.describe import parse_changes
from tests.conformance.transcript import Case

_BOOLEANS: Mapping[tuple[str, ...], bool] = {("true",): True, ("false",): False}


class Configuration:
    """A tracker whose log grows by one entry with every case, failed ones too."""

    def __init__(self) -> None:
        self._tracker = Tracker(10, None)
        self._last_index = 0

    def handle(self, case: Case) -> str:
        case.words(0, 0)
        case.only(input_lines=1)
        try:
            changed = self._change(case)
            self._tracker.switch(changed.conf_state, self._last_index, changed.dropped)
        except InvalidConfiguration as error:
            return str(error)
        finally:
            self._last_index += 1
        members = [f"{member}: {progress}" for member, progress in self._tracker.progress.items()]
        return "\n".join([describe(self._tracker.conf_state), *members])

    def _change(self, case: Case) -> Changed:
        conf_state = self._tracker.conf_state
        changes = parse_changes(case.input[0] if case.input else "")
        if case.directive == "enter-joint":
            auto_leave = _BOOLEANS[case.options("autoleave").get("autoleave", ("false",))]
            return enter_joint(conf_state, changes, auto_leave=auto_leave)
        case.options()
        if case.directive == "simple":
            return simple(conf_state, changes)
        if case.directive != "leave-joint":
            raise case.error("unknown directive")
        case.only()
        return leave_joint(conf_state)
