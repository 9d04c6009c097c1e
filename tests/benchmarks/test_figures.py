"""What becomes of figures: medians, targets, tables, plots."""

import json
from xml.etree import ElementTree

import pytest

from benchmarks.contestants import Etcd, Ours
from benchmarks.figures import Figures
from benchmarks.measurements.growth import NAME, Point, Series, points
from benchmarks.plot import draw, plots
from benchmarks.processes import last_words
from benchmarks.table import as_json, as_markdown
from benchmarks.targets import TARGETS

OURS, ETCD = Ours(3).name, Etcd(3).name
LOAD = {"clients": 64, "keys": 1000, "value_bytes": 100}


def figures_of_a_run() -> Figures:
    figures = Figures()
    for rate in (100.0, 300.0, 200.0):
        figures.add("get", OURS, LOAD, rate_per_s=rate, p50_ms=1000 / rate)
        figures.add("get", ETCD, LOAD, rate_per_s=160.0, p50_ms=4.0)
    for keys, memory in ((10_000, 20e6), (1_000_000, 416e6)):
        figures.add(
            "state",
            OURS,
            {"keys": keys, "value_bytes": 100},
            put_rate_per_s=1000.0 if keys < 20_000 else 950.0,
            written_bytes_per_put=400.0 if keys < 20_000 else 1000.0,
            resident_bytes=memory,
            restart_s=9.0,
        )
    for stall in (1.0, 1.1, 2.5):
        figures.add("failover", OURS, {}, stall_s=stall, stall_election_timeouts=stall)
    figures.missing["rqlite"] = "is not installed"
    return figures


def test_targets_are_ratios_of_medians() -> None:
    """Each target that has its figures is computed, and met or not; the others are not measured."""
    figures = figures_of_a_run()
    computed = {t.what: (v, t.is_met(v)) for t in TARGETS if (v := t.compute(figures)) is not None}
    assert computed == {
        "linearizable GET, 64 clients / etcd": (pytest.approx(200 / 160), False),
        "bytes written a PUT, most keys / 10,000 keys": (pytest.approx(2.5), True),
        "PUT rate, most keys / 10,000 keys": (pytest.approx(0.95), True),
        "restart with most keys and a full log": (9.0, True),
        "memory a key beyond key and value": (pytest.approx(400 - 13 - 100), True),
        "write stall after kill -9 of the leader, median": (1.1, True),
        "write stall after kill -9 of the leader, longest": (2.5, False),
    }


def test_the_table_and_the_document_say_the_same() -> None:
    """Medians in Markdown, each round in JSON, and in both what is missing and where it was measured."""
    figures = figures_of_a_run()
    text = as_markdown({"kernel": "Linux"}, figures, 3)
    assert "| linearizable GET, 64 clients / etcd | 0.28 | >= 1.3 | 1.25 | no |" in text
    assert f"| get | {OURS} | 64 | 1,000 | 100 | 200 | 5 |" in text
    assert "- rqlite: is not installed\n" in text
    assert text.endswith("## Environment\n\n- kernel: Linux\n")
    document = json.loads(as_json({"kernel": "Linux"}, figures, 3))
    assert document["figures"][0]["rounds"]["rate_per_s"] == [100, 300, 200]
    assert document["figures"][0]["medians"]["rate_per_s"] == 200
    assert document["targets"][0]["is_met"] is False
    assert document["missing"] == {"rqlite": "is not installed"}


def test_plots_are_drawn_where_there_are_points() -> None:
    """Well-formed SVG, with a line an operation; without a second point there is none."""
    figures = Figures()
    assert plots(figures) == {}
    for clients in (1, 4, 64):
        shape = {"clients": clients, "keys": 1000, "value_bytes": 100, "nodes": 3}
        for operation in ("get", "put"):
            figures.add(operation, NAME, shape, rate_per_s=1000.0 * clients**0.5, p50_ms=1.0 + clients / 9)
    drawn = plots(figures)
    assert list(drawn) == ["latency-throughput.svg"]
    root = ElementTree.fromstring(drawn["latency-throughput.svg"])
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 6 + 2  # and two in the legend
    assert draw("<&>", ("x", "y"), {"a<b": [(1.0, 2.0), (1.0, 3.0)]}) is not None


def test_the_points_of_growth() -> None:
    """One thing grows at a time, and no point is measured twice."""
    series = Series(keys=(1000, 10_000), clients=(1, 64), value_bytes=(100, 1_000_000), nodes=(1, 3))
    assert points(series) == [
        Point(),
        Point(keys=10_000),
        Point(clients=1),
        Point(clients=4),
        Point(clients=4, value_bytes=1_000_000, keys=64),
        Point(nodes=1),
    ]


def test_last_words() -> None:
    """Of a program that failed, also in the frame of an exception group."""
    assert last_words("") == "it said nothing"
    assert last_words("Traceback:\n    | ValueError: no\n    +------\n") == "ValueError: no"
