"""What a load found, for a reader and for a program."""

import json

from raftkv_trio._version import __version__
from raftkv_trio.client.load.latencies import Latencies
from raftkv_trio.client.load.load import MIXED, Load
from raftkv_trio.client.load.tally import Tally
from raftkv_trio.client.load.targets import Targets
from raftkv_trio.client.text import aligned, counted

PERCENTS = (50.0, 90.0, 99.0, 99.9)
#: Bounds of the histogram: five a decade, from 0.1 ms to 100 s.
BOUNDS_S = (*(step * 10.0**power for power in range(-4, 2) for step in (1, 1.5, 2.5, 4, 6)), 100.0)
_BAR_CHARACTERS = 40
#: Of each number in JSON: more would only look exact.
_DIGITS = 6


def as_text(load: Load, targets: Targets, tally: Tally) -> str:
    """A table of rates and percentiles, the errors, and a histogram of each operation."""
    where = (", then " if targets.leader_changes else ", ").join(server.url for server in targets.loaded)
    elapsed_s = tally.elapsed_s
    head = (
        f"{load.operation} on {where}: {counted(load.clients, 'client')}, "
        f"values of {counted(load.value_bytes, 'byte')}, {counted(load.keys, 'key')}, {elapsed_s:.1f} s"
    )
    columns = ["", "REQUESTS", "PER S", *(f"P{percent:g}" for percent in PERCENTS), "MAX", "ERRORS"]
    rows = [columns]
    parts = []
    for operation, outcomes in tally.outcomes.items():
        latencies = outcomes.latencies
        times = [*(latencies.percentile(percent) for percent in PERCENTS), latencies.max_s or None]
        errors = sum(outcomes.errors.values())
        rate = f"{_rate(latencies, elapsed_s):,.0f}"
        rows.append([operation, f"{latencies.count:,}", rate, *map(_time, times), f"{errors:,}"])
        parts += [_histogram(operation, latencies)] if latencies.count else []
    if targets.left_out:
        head += f"\nleft out: {', '.join(f'node {i} ({why})' for i, why in targets.left_out.items())}"
    stall = f"longest time without a success: {_time(tally.longest_stall_s)}"
    return "\n\n".join([f"{head}\n\n{aligned(rows)}", stall, *_errors(tally), *parts])


def as_json(load: Load, targets: Targets, tally: Tally, *, was_interrupted: bool) -> str:
    """The same as a JSON object; all times are in seconds, all numbers have six significant digits."""
    results = {}
    for operation, outcomes in tally.outcomes.items():
        latencies = outcomes.latencies
        counts = latencies.histogram(BOUNDS_S)
        results[operation] = {
            "succeeded": latencies.count,
            "rate": _rounded(_rate(latencies, tally.elapsed_s)),
            "latency_s": {
                **{f"p{percent:g}": _rounded(latencies.percentile(percent)) for percent in PERCENTS},
                "max": _rounded(latencies.max_s if latencies.count else None),
            },
            "statuses": {str(status): count for status, count in sorted(outcomes.statuses.items())},
            "refusals": {str(status): said for status, said in sorted(outcomes.refusals.items())},
            "failures": dict(outcomes.failures),
            "histogram": [
                {"up_to_s": _rounded(bound), "count": count}
                for bound, count in zip([*BOUNDS_S, None], counts, strict=True)
                if count
            ],
        }
    document = {
        "version": __version__,
        "operation": load.operation,
        "read_percent": load.read_percent if load.operation == MIXED else None,
        "all_members": not targets.follows_leader,
        "servers": [server.url for server in targets.loaded],
        "leader_changes": targets.leader_changes,
        "left_out": {str(node_id): why for node_id, why in targets.left_out.items()},
        "clients": load.clients,
        "value_bytes": load.value_bytes,
        "keys": load.keys,
        "duration_s": _rounded(load.duration_s),
        "elapsed_s": _rounded(tally.elapsed_s),
        "was_interrupted": was_interrupted,
        "longest_stall_s": _rounded(tally.longest_stall_s),
        "unreached": dict(tally.unreached),
        "results": results,
    }
    return json.dumps(document, indent=2)


def _rate(latencies: Latencies, elapsed_s: float) -> float:
    return latencies.count / elapsed_s if elapsed_s else 0.0


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.{_DIGITS}g}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = 1000 * seconds
    return f"{milliseconds:.{2 if milliseconds < 10 else 1}f} ms"


def _errors(tally: Tally) -> list[str]:
    lines = []
    for operation, outcomes in tally.outcomes.items():
        said = {str(status): f": {sentence}" for status, sentence in outcomes.refusals.items()}
        for what, count in outcomes.errors.items():
            reason = f"status {what}" if what.isdecimal() else what
            lines.append(f"{operation}: {counted(count, 'time')} {reason}{said.get(what, '')}")
    lines += [f"not reached: {counted(count, 'time')} {reason}" for reason, count in tally.unreached.items()]
    return ["\n".join(lines)] if lines else []


def _histogram(operation: str, latencies: Latencies) -> str:
    """A line for each bucket, from the first to the last that has something in it."""
    counts = latencies.histogram(BOUNDS_S)
    filled = [number for number, count in enumerate(counts) if count]
    most = max(counts)
    rows = []
    for number in range(filled[0], filled[-1] + 1):
        is_last = number == len(BOUNDS_S)
        bound = f"> {_time(BOUNDS_S[-1])}" if is_last else f"<= {_time(BOUNDS_S[number])}"
        bar = "#" * round(_BAR_CHARACTERS * counts[number] / most)
        share = f"{100 * counts[number] / latencies.count:.2f} %"
        rows.append([f"  {bound}", f"{counts[number]:,}", share, bar or ("." if counts[number] else "")])
    return f"{operation}, how long requests took:\n{aligned(rows)}"
