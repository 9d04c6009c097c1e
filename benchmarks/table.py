"""A run as Markdown, for a reader, and as JSON, for a program."""

import json
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Figure, Figures
from benchmarks.targets import TARGETS, most_keys

#: How the values of figures are headed, in the order of their columns.
_HEADS = {
    "rate_per_s": "per s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "put_rate_per_s": "PUT per s",
    "written_bytes_per_put": "bytes written a PUT",
    "snapshots": "snapshots seen",
    "resident_bytes": "memory, bytes",
    "restart_s": "restart s",
    "snapshot_s": "snapshot s",
    "slowest_during_snapshot_ms": "slowest during it ms",
    "since_parsed_ms": "ms since the request was parsed",
    "stall_s": "write stall s",
    "stall_election_timeouts": "in election timeouts",
}


def as_markdown(environment: Mapping[str, str], figures: Figures, rounds: int) -> str:
    """The targets, all medians, what is missing, and the environment."""
    parts = [
        "# Benchmarks",
        f"Rounds: {rounds}; all values are their medians. Ratios compare contestants of this run.",
        _targets(figures),
    ]
    shapes = dict.fromkeys(_shape(figure) for figure in figures)
    parts += [_figures([figure for figure in figures if _shape(figure) == shape]) for shape in shapes]
    for title, reasons in (("Missing", figures.missing), ("Failed", figures.failed)):
        if reasons:
            parts.append(f"## {title}\n\n{_list(reasons)}")
    parts.append(f"## Environment\n\n{_list(environment)}")
    return "\n\n".join(parts) + "\n"


def as_json(environment: Mapping[str, str], figures: Figures, rounds: int) -> str:
    """Everything, with each round."""
    targets = [
        {
            "what": target.what,
            "before": target.before,
            "goal": target.goal,
            "is_at_most": target.is_at_most,
            "value": (value := target.compute(figures)),
            "is_met": None if value is None else target.is_met(value),
        }
        for target in TARGETS
    ]
    document = {
        "environment": dict(environment),
        "rounds": rounds,
        "targets": targets,
        **figures.as_document(),
    }
    return json.dumps(document, indent=2) + "\n"


def _targets(figures: Figures) -> str:
    rows = []
    for target in TARGETS:
        value = target.compute(figures)
        sign = "<=" if target.is_at_most else ">="
        shown, met = "not measured", "-"
        if value is not None:
            shown, met = f"{_number(value)}{target.unit}", "yes" if target.is_met(value) else "no"
        rows.append([target.what, target.before, f"{sign} {target.goal:g}{target.unit}", shown, met])
    table = _table(["what", "before", "target", "now", "met"], rows)
    keys = most_keys(figures)
    return f"## Targets\n\n{table}" + (f"\n\nMost keys: {keys:,}." if keys else "")


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
    subjects = dict.fromkeys(figure.what.partition(":")[0] for figure in figures)
    by = ", ".join(name.replace("_", " ") for name in parameters)
    return f"## {', '.join(subjects)}{f' by {by}' if by else ''}\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in items.items())


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
