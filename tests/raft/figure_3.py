"""The properties that the paper proves of Raft (figure 3), watched over a whole cluster.

- Election Safety: at most one leader a term;
- Log Matching: an entry of one index and term is the same everywhere, and follows an entry of one term;
- Leader Completeness: a leader has everything that was committed in earlier terms;
- State Machine Safety: nobody commits, or applies, another entry at an index than anybody else;
- of section 6: the configuration in force at an index is the same everywhere;
- of section 8: a read sees what anybody knew to be committed when it was asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

from raftkv_trio.raft.types import ConfState, Entry
from tests.raft.cores import Core


class _Committed(NamedTuple):
    entry: Entry
    #: The term in which a leader committed it.
    term: int


class Figure3:
    """Everything that was seen in one run; `check` raises AssertionError."""

    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._committed: dict[int, _Committed] = {}
        self._commit = 0
        self._configurations: dict[int, ConfState] = {}
        self._reads: dict[bytes, int] = {}
        self._seen: dict[int, tuple[object, ...]] = {}
        self._applied: dict[int, tuple[Core, ConfState, int, int]] = {}

    def new_read(self) -> bytes:
        """Context of a read that is asked for now."""
        context = b"%d" % len(self._reads)
        self._reads[context] = self._commit
        return context

    def check(self, core: Core) -> None:
        """Look at a core after it has done something."""
        raw, log = core.raw, core.raw.raft.log
        first, commit, unwritten = log.first_index(), log.committed, len(core.writes)
        state = (core, raw.role, raw.term, first, log.last_index(), log.last_term(), commit, unwritten)
        if state != self._seen.get(core.id):
            self._seen[core.id] = state
            if core.leads:
                leader = self._leaders.setdefault(raw.term, core.id)
                assert leader == core.id, f"nodes {leader} and {core.id} lead term {raw.term}"
            entries = core.log
            self._check_log(entries, log.term(first - 1))
            self._check_commit(core, entries[: max(0, commit + 1 - first)])
            if core.leads:
                self._check_complete(core, first, entries)
        applied = (core, raw.raft.conf_state, log.applied, len(core.applied))
        if applied != self._applied.get(core.id):
            self._check_applied(core)
            self._check_configuration(core)
            self._applied[core.id] = applied
        for read in core.reads:
            assert read.index >= self._reads[read.context], f"a read at {read.index} is stale"
        core.reads.clear()

    def _check_log(self, entries: Sequence[Entry], previous_term: int) -> None:
        for entry in entries:
            known = self._entries.setdefault((entry.term, entry.index), (entry, previous_term))
            assert known == (entry, previous_term), f"two entries {entry.term}/{entry.index}"
            previous_term = entry.term

    def _check_commit(self, core: Core, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._committed.setdefault(entry.index, _Committed(entry, core.raw.term))
            assert known.entry == entry, f"two committed entries at {entry.index}"
        self._commit = max(self._commit, core.raw.commit)

    def _check_complete(self, core: Core, first: int, entries: Sequence[Entry]) -> None:
        for index in range(first, self._commit + 1):
            committed = self._committed.get(index)  # or only a snapshot of it was seen
            if committed is not None and committed.term < core.raw.term:
                assert entries[index - first : index - first + 1] == [committed.entry], (
                    f"the leader of term {core.raw.term} lacks what was committed at {index}"
                )

    def _check_applied(self, core: Core) -> None:
        before, _, _, count = self._applied.get(core.id, (core, None, 0, 0))
        if before is not core or count > len(core.applied):
            count = 0  # it was started again, or has installed a snapshot
        for index, entry in enumerate(core.applied[count:], core.snapshot.index + 1 + count):
            assert self._committed[index].entry == entry, f"{entry} is applied at {index}"

    def _check_configuration(self, core: Core) -> None:
        raft = core.raw.raft
        snapshot = raft.log.unstable.snapshot
        index = snapshot.index if snapshot else raft.log.applied
        known = self._configurations.setdefault(index, raft.conf_state)
        assert known == raft.conf_state, f"two configurations at {index}"
