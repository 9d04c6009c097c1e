"""A run as Markdown, for a reader, and as JSON, for a program."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from benchmarks.bends import Curve, bends, curves
from benchmarks.figures import Figure, Figures
from benchmarks.measurements import growth
from benchmarks.targets import TARGETS, most_keys

#: How the values of figures are headed, in the order of their columns.
_HEADS = {
    "rate_per_s": "per s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "put_rate_per_s": "PUT per s",
    "written_bytes_per_put": "bytes written a PUT, by each node",
    "snapshots": "snapshots seen",
    "resident_bytes": "memory, bytes",
    "restart_s": "restart s",
    "snapshot_s": "snapshot s",
    "slowest_during_snapshot_ms": "slowest during it ms",
    "since_parsed_ms": "ms since the request was parsed",
    "leader_cores": "cores of the leader",
    "machine_share": "of all cores",
    "written_bytes_per_s": "bytes written by all nodes per s",
    "stall_s": "write stall s",
    "stall_election_timeouts": "in election timeouts",
}


def as_markdown(environment: Mapping[str, str], measured: Mapping[str, Figures]) -> str:
    """A page of its own; `measured` has the figures of each part of the run, by its name."""
    head = "All values are medians of their rounds. Ratios compare contestants of this run."
    found = ["# Benchmarks", head, *sections(measured, "##"), f"## Environment\n\n{_list(environment)}"]
    return "\n\n".join(found) + "\n"


def sections(measured: Mapping[str, Figures], level: str) -> list[str]:
    """The targets of these parts, all medians, and what is missing; `level` is that of the headings."""
    found = {}
    if targets := _targets(measured):
        found["Targets"] = targets
    everything = list(chain.from_iterable(measured.values()))
    others = [figure for figure in everything if figure.contestant != growth.NAME]
    for shape in dict.fromkeys(map(_shape, others)):
        alike = [figure for figure in others if _shape(figure) == shape]
        found[_subject(alike)] = _figures(alike)
    for figures in measured.values():
        for growing, alike_curves in _by_what_grows(figures).items():
            found[f"Growth by {growing.replace('_', ' ')}"] = _growth(growing, alike_curves)
        if sentences := bends(figures):
            found["Where the curves bend, and why"] = "\n".join(f"- {sentence}" for sentence in sentences)
    for title, reasons in (("Missing", _missing(measured)), ("Failed", _failed(measured))):
        if reasons:
            found[title] = _list(reasons)
    return [f"{level} {title}\n\n{text}" for title, text in found.items()]


def as_json(environment: Mapping[str, str], measured: Mapping[str, Figures], rounds: int) -> str:
    """Everything, with each round."""
    targets = [
        {
            "part": target.part,
            "what": target.what,
            "before": target.before,
            "goal": target.goal,
            "is_at_most": target.is_at_most,
            "value": (value := target.compute(measured[target.part])),
            "is_met": None if value is None else target.is_met(value),
        }
        for target in TARGETS
        if target.part in measured
    ]
    document = {
        "environment": dict(environment),
        "rounds": rounds,
        "targets": targets,
        "figures": [{"part": part, **f} for part, fs in measured.items() for f in fs.as_documents()],
        "missing": _missing(measured),
        "failed": _failed(measured),
        "bends": [sentence for figures in measured.values() for sentence in bends(figures)],
    }
    return json.dumps(document, indent=2) + "\n"


def _missing(measured: Mapping[str, Figures]) -> dict[str, str]:
    return dict(chain.from_iterable(figures.missing.items() for figures in measured.values()))


def _failed(measured: Mapping[str, Figures]) -> dict[str, str]:
    return dict(chain.from_iterable(figures.failed.items() for figures in measured.values()))


def _targets(measured: Mapping[str, Figures]) -> str:
    """Those of the parts that were asked for; empty if these have none."""
    rows = []
    for target in TARGETS:
        if target.part not in measured:
            continue
        value = target.compute(measured[target.part])
        sign = "<=" if target.is_at_most else ">="
        shown, met = "not measured", "-"
        if value is not None:
            shown, met = f"{_number(value)}{target.unit}", "yes" if target.is_met(value) else "no"
        rows.append([target.what, target.before, f"{sign} {target.goal:g}{target.unit}", shown, met])
    if not rows:
        return ""
    table = _table(["what", "before", "target", "now", "met"], rows)
    keys = max(map(most_keys, measured.values()))
    return table + (f"\n\nMost keys: {keys:,}." if keys else "")


def _shape(figure: Figure) -> tuple[str, ...]:
    """Figures of one shape stand in one table."""
    return (*sorted(figure.parameters), *figure.rounds)


def _figures(figures: Sequence[Figure]) -> str:
    parameters = list(figures[0].parameters)
    values = [name for name in _HEADS if name in figures[0].rounds]
    head = [
        "what",
        "contestant",
        *(name.replace("_", " ") for name in parameters),
        *map(_HEADS.__getitem__, values),
    ]
    rows = [
        [
            figure.what,
            figure.contestant,
            *(f"{figure.parameters[name]:,}" for name in parameters),
            *(_number(figure.median(name)) for name in values),
        ]
        for figure in figures
    ]
    return _table(head, rows)


def _subject(figures: Sequence[Figure]) -> str:
    """The title of a table of figures of one shape."""
    subjects = dict.fromkeys(figure.what.partition(":")[0] for figure in figures)
    by = ", ".join(name.replace("_", " ") for name in figures[0].parameters)
    return f"{', '.join(subjects)}{f' by {by}' if by else ''}"


def _by_what_grows(figures: Figures) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in curves(figures):
        found.setdefault(curve.growing, []).append(curve)
    return found


def _growth(growing: str, alike: Sequence[Curve]) -> str:
    """What does not grow, and a table with a line for each operation at each point."""
    fixed = {n: v for n, v in alike[0].figures[0].parameters.items() if n != growing}
    values = [name for name in _HEADS if name in alike[0].figures[0].rounds]
    head = [growing.replace("_", " "), "operation", *map(_HEADS.__getitem__, values)]
    rows = [
        [f"{f.parameters[growing]:,}", f.what, *(_number(f.median(name)) for name in values)]
        for curve in alike
        for f in curve.figures
    ]
    others = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in fixed.items())
    fewer = "; fewer keys with larger values" if growing == "value_bytes" else ""
    return f"The others: {others}{fewer}.\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in items.items())


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
