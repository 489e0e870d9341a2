"""The figures are told as they were taken, every measure works, and the page is what the stored run says."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import bench
import chart
import page
from figures import BARE, FIGURES, FULL, MAIN, Field, Figure, Target, ratio

ROOT = Path(__file__).parent.parent

ROUNDS: list[page.Round] = [
    {"": {name: {"cpu_us": cpu, "per_second": 1e6 / cpu} for name, cpu in taken.items()}}
    for taken in (
        {"floor": 10.0, FULL: 20.0, "aiohttp": 40.0},
        {"floor": 30.0, FULL: 30.0, "aiohttp": 90.0},
        {"floor": 20.0, FULL: 60.0, "aiohttp": 99.0},
    )
]
"""A machine whose speed drifts: the ratios within the rounds are 2, 1 and 3."""

FIGURE = Figure(
    "small",
    "A small answer",
    "What it is.",
    "load",
    {"": {}},
    ("floor", FULL, "aiohttp", "httpx"),
    (Field("cpu_us", "us"), Field("cpu_us", "beside the floor", 2, "floor")),
)

RESULTS: page.Results = {
    "date": "2026-11-22",
    "minutes": 12.4,
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "Linux 6",
        "python": "CPython 3.11",
        "openssl": "3.0",
        "load": 0.04,
    },
    "versions": {"aiohttp": "3.14"},
    "figures": {"small": ROUNDS},
}


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    assert ratio(ROUNDS, "cpu_us", ("", FULL), ("", "floor")) == 2.0
    assert ratio(ROUNDS, "cpu_us", ("", FULL), ("", "nobody")) is None


def test_a_table_has_a_row_for_each_client_and_says_nothing_of_one_that_did_not_run() -> None:
    assert page.table(FIGURE, ROUNDS).splitlines() == [
        "| | us | beside the floor |",
        "|---|---:|---:|",
        "| floor | 20.0 | 1.00 |",
        f"| **{FULL}** | 30.0 | 2.00 |",
        "| aiohttp | 90.0 | 4.00 |",
        "| httpx |  |  |",
    ]


@pytest.mark.parametrize(
    ("bound", "least", "met"), [(2.0, False, True), (1.99, False, False), (2.0, True, True), (2.01, True, False)]
)
def test_a_target_is_met_by_what_the_page_prints(bound: float, least: bool, met: bool) -> None:
    target = Target("full, beside the floor", "cpu_us", ("", FULL), bound, ("", "floor"), least=least)
    assert target.met(2.004 if not least else 1.996) is met


def test_the_page_says_what_was_reached_and_nothing_of_what_was_not_measured() -> None:
    text = page.whole(RESULTS)
    assert "| full, beside the floor | 2.00 x | at most 2 x | yes |" in text
    assert "| aiohttp, beside full | 2.00 x | at least 3 x | **no** |" in text
    assert "1 of 2 are reached." in text
    assert "## Over TLS" not in text
    assert "- A CPU, 2 cores, Linux 6; load 0.0 when it began" in text


def test_a_target_that_was_missed_is_explained_where_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    reached, missed = (dataclasses.replace(target, why=f"because of {target.bound:g}") for target in MAIN.targets[:2])
    monkeypatch.setattr(page, "FIGURES", [dataclasses.replace(MAIN, targets=(reached, missed))])
    text = page.whole(RESULTS)
    assert "*aiohttp, beside full*: because of 3" in text
    assert "because of 2" not in text


def test_a_bar_is_longer_for_more_and_its_label_is_text() -> None:
    root = ET.fromstring(chart.draw([("<title>", [("a & b", 10.0, "ours"), ("c", 100.0, "peer")])]))
    svg = "{http://www.w3.org/2000/svg}"
    ours, peer = (
        float(bar.attrib["width"]) for bar in root.iter(f"{svg}rect") if bar.attrib["class"] in {"ours", "peer"}
    )
    assert 0 < ours < peer
    assert {"<title>", "a & b", "10.0", "100.0"} <= {text.text for text in root.iter(f"{svg}text")}


def test_every_client_of_every_figure_is_known() -> None:
    from contenders import CONTENDERS
    from measures import MEASURES

    for figure in FIGURES:
        assert set(figure.absent) <= set(figure.cases)
        assert {target.entry for target in figure.targets} <= set(figure.entries())
        if figure.measure in MEASURES:
            assert set(figure.clients) <= set(CONTENDERS)


TINY = {
    "load": {"requests": 200, "concurrency": 5},
    "latency": {"requests": 200},
    "stream": {"size": 1 << 20},
    "idle": {"concurrency": 20, "connections": 20},
    "importing": {},
}


@pytest.mark.parametrize("key", ["small", "latency", "streams", "idle", "import"])
def test_every_measure_measures(key: str) -> None:
    (whole,) = [figure for figure in FIGURES if figure.key == key]
    client = next(client for client in (FULL, BARE, "fairlead") if client in whole.clients)
    case = list(whole.cases)[-1]  # of the idle connections, those over TLS
    figure = dataclasses.replace(
        whole, clients=(client,), cases={case: whole.cases[case]}, quick=TINY[whole.measure], absent={}
    )
    with ExitStack() as stack:
        rounds = bench.rounds_of(figure, 1, bench.Bench(stack), quick=True)
    for field in figure.fields:
        measured = field.value(rounds, case, client if not field.beside else field.beside)
        assert measured is not None
        assert measured >= 0
    if key == "idle":
        assert rounds[0][case][client]["kept"] == 20


def test_a_call_that_fails_ends_the_run() -> None:
    figure = dataclasses.replace(MAIN, clients=(FULL,), options={"requests": 200, "path": "/bytes/3"}, quick={})
    with (
        ExitStack() as stack,
        pytest.raises(RuntimeError, match=f"{FULL}, A small answer: .* calls failed, the first by DecodeError"),
    ):
        bench.rounds_of(figure, 1, bench.Bench(stack), quick=False)


def test_the_page_is_what_the_stored_run_says() -> None:
    stored = json.loads(bench.RESULTS.read_text("utf-8"))
    mend = "run `python benchmarks/bench.py --render`"
    assert (ROOT / "docs" / "performance.md").read_text("utf-8") == page.whole(stored), mend
    assert (ROOT / "docs" / "performance.svg").read_text("utf-8") == chart.draw(page.panels(stored)), mend
