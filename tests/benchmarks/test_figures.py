"""What becomes of figures: medians, targets, tables, plots."""

import json
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.bends import bends
from benchmarks.contestants import Etcd, Ours
from benchmarks.documents import PAGE, begin, check_markers, end, write_docs
from benchmarks.figures import Figures
from benchmarks.measurements.growth import NAME, Point, Series, points
from benchmarks.parts import PARTS
from benchmarks.plot import draw, plots
from benchmarks.processes import BenchmarkError, last_words
from benchmarks.table import as_json, as_markdown
from benchmarks.targets import TARGETS

OURS, ETCD = Ours(3).name, Etcd(3).name
LOAD = {"clients": 64, "keys": 1000, "value_bytes": 100}


def measured_in_a_run() -> dict[str, Figures]:
    loads, state, failover = Figures(), Figures(), Figures()
    for rate in (100.0, 300.0, 200.0):
        loads.add("get", OURS, LOAD, rate_per_s=rate, p50_ms=1000 / rate)
        loads.add("get", ETCD, LOAD, rate_per_s=160.0, p50_ms=4.0)
    for keys, memory in ((10_000, 20e6), (1_000_000, 416e6)):
        state.add(
            "state",
            OURS,
            {"keys": keys, "value_bytes": 100},
            put_rate_per_s=1000.0 if keys < 20_000 else 950.0,
            written_bytes_per_put=400.0 if keys < 20_000 else 1000.0,
            resident_bytes=memory,
            restart_s=9.0,
        )
    for stall in (1.0, 1.1, 2.5):
        failover.add("failover", OURS, {}, stall_s=stall, stall_election_timeouts=stall)
    loads.missing["rqlite"] = "is not installed"
    return {"loads": loads, "state": state, "failover": failover}


def test_targets_are_ratios_of_medians() -> None:
    """Each target that has its figures is computed, and met or not; the others are not measured."""
    measured = measured_in_a_run()
    computed = {
        t.what: (v, t.is_met(v))
        for t in TARGETS
        if t.part in measured and (v := t.compute(measured[t.part])) is not None
    }
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
    measured = measured_in_a_run()
    text = as_markdown({"kernel": "Linux"}, measured)
    assert "| linearizable GET, 64 clients / etcd | 0.28 | >= 1.3 | 1.25 | no |" in text
    assert f"| get | {OURS} | 64 | 1,000 | 100 | 200 | 5 |" in text
    assert "\n\nMost keys: 1,000,000.\n" in text
    assert "- rqlite: is not installed\n" in text
    assert text.endswith("## Environment\n\n- kernel: Linux\n")
    document = json.loads(as_json({"kernel": "Linux"}, measured, 3))
    assert document["figures"][0]["part"] == "loads"
    assert document["figures"][0]["rounds"]["rate_per_s"] == [100, 300, 200]
    assert document["figures"][0]["medians"]["rate_per_s"] == 200
    assert document["targets"][0]["is_met"] is False
    assert document["missing"] == {"rqlite": "is not installed"}


def test_only_targets_of_what_was_asked_for() -> None:
    """A part that was not measured has no line in the table of targets, and a part may have none."""
    failover = {"failover": measured_in_a_run()["failover"]}
    text = as_markdown({}, failover)
    assert text.count("| write stall after kill -9 of the leader") == 2
    assert "etcd" not in text
    assert {target["part"] for target in json.loads(as_json({}, failover, 3))["targets"]} == {"failover"}
    disk = {"disk": Figures()}
    assert "Targets" not in as_markdown({}, disk)
    assert json.loads(as_json({}, disk, 3))["targets"] == []


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


def figures_of_growth() -> Figures:
    """Clients and keys grow; the leader's thread is busy from 16 clients on, the disk with many keys."""
    figures = Figures()
    base = {"clients": 64, "keys": 1000, "value_bytes": 100, "nodes": 3}
    for clients, rate, cores in (
        (1, 900, 0.3),
        (4, 3000, 0.6),
        (16, 8000, 0.97),
        (64, 8400, 1.0),
        (256, 6000, 1),
    ):
        figures.add("get", NAME, {**base, "clients": clients}, rate_per_s=rate, p50_ms=clients / 9)
        figures.add("get", NAME, {**base, "clients": clients}, leader_cores=cores, machine_share=0.8)
    for keys, rate in ((1000, 3000), (10_000, 2900), (100_000, 2000), (1_000_000, 1500)):
        figures.add("put", NAME, {**base, "keys": keys}, rate_per_s=rate, p50_ms=9.0)
        figures.add(
            "put", NAME, {**base, "keys": keys}, leader_cores=0.4, machine_share=0.5, written_bytes_per_s=3e6
        )
    return figures


def test_where_curves_bend() -> None:
    """A curve over clients bends where it stops to rise, others where they fall, and the limit is named."""
    by_keys, by_clients = bends(figures_of_growth())
    assert by_keys == (
        "PUT by keys: level up to 10,000 keys, falls at 100,000 keys, 50% of the first rate is left at "
        "1,000,000 keys; there the disk is waited for: 3 MB/s are written by all nodes "
        "(0.40 of a core for the leader, 50% of all cores)."
    )
    assert by_clients == (
        "GET by clients: rises up to 16 clients (8,000/s), then by less than a tenth, 75% of that at "
        "256 clients; there the leader's one thread of Python is busy "
        "(0.97 of a core for the leader, 80% of all cores)."
    )
    figures = Figures()
    for nodes, rate in ((1, 100), (3, 95), (5, 90)):
        shape = {"clients": 64, "keys": 1000, "value_bytes": 100, "nodes": nodes}
        figures.add("put", NAME, shape, rate_per_s=rate)
    assert bends(figures) == ["PUT by nodes: level, 90% of the first rate is left at 5 nodes."]


def test_growth_has_a_table_for_each_thing_that_grows() -> None:
    """With what stays as it is; the document for programs has the sentences too."""
    figures = figures_of_growth()
    text = as_markdown({}, {"growth": figures})
    assert (
        "## Growth by clients\n\nThe others: keys 1,000, value bytes 100, nodes 3.\n\n| clients | operation |"
        in text
    )
    assert "| 16 | get | 8,000 | 1.78 | 0.97 | 0.8 |" in text
    assert text.count("| 1,000,000 | put | 1,500 |") == 1
    assert json.loads(as_json({}, {"growth": figures}, 1))["bends"] == bends(figures)


def page_with(parts: Iterable[str], directory: Path) -> Path:
    page = directory / "performance.md"
    between = "\n\n".join(f"{begin(part)}\n\nold {part}\n\n{end(part)}" for part in parts)
    page.write_text(f"before\n\n{between}\n\nafter\n")
    return page


def test_a_run_is_written_into_the_page(tmp_path: Path) -> None:
    """Each part between its own markers, each time anew; a later run of other parts leaves it as it is."""
    page = page_with(PARTS, tmp_path)
    measured = measured_in_a_run()
    for _ in range(2):
        write_docs({"kernel": "Linux", "disk": "none"}, measured, page)
    text = page.read_text()
    assert text.startswith(f"before\n\n{begin('loads')}\n\n### Loads over HTTP\n\nMeasured on ")
    assert text.endswith(f"{end('growth')}\n\nafter\n")
    for part in PARTS:
        assert (f"old {part}\n" in text) == (part not in measured)
        assert text.count(f"### {PARTS[part]}\n") == (part in measured)
    assert text.count("All values are medians of 3 rounds.") == 2
    assert text.count("Each value is of one round.") == 1
    assert "Environment: kernel: Linux; disk: none." in text
    write_docs({}, {"growth": figures_of_growth(), "disk": Figures()}, page)
    grown = page.read_text()
    assert grown.partition(begin("growth"))[0] == text.partition(begin("growth"))[0]
    assert "#### Growth by keys\n" in grown
    for plot in ("latency-throughput.svg", "throughput-keys.svg"):
        assert f"(plots/{plot})" in grown
        assert (tmp_path / "plots" / plot).exists()
    write_docs({}, measured, page)
    assert page.read_text().count("(plots/") == 2  # another part leaves the plots


def test_markers_of_the_page(tmp_path: Path) -> None:
    """Our page has those of each part; without them a part is not written, and nor are the others."""
    check_markers(PARTS, PAGE)
    page = page_with(["loads", "state"], tmp_path)
    before = page.read_text()
    with pytest.raises(BenchmarkError, match="needs these two markers"):
        write_docs({}, measured_in_a_run(), page)
    assert page.read_text() == before
    page.write_text(f"{end('loads')} {begin('loads')}")
    with pytest.raises(BenchmarkError, match="in this order and once each"):
        check_markers(["loads"], page)


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
