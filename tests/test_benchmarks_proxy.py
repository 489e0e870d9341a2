"""What a proxy costs is told as it was taken, every measure works, and the page is what the stored run says."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import bench
import chart
from proxies import page
from proxies.contenders import CONTENDERS
from proxies.turns import contend, present

DOCS = Path(__file__).parent.parent / "docs"

RESULTS: page.Results = {
    "date": "2026-11-22",
    "minutes": 3.2,
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "Linux 6",
        "python": "CPython 3.11",
        "openssl": "3.0",
        "load": 0.04,
    },
    "versions": {"http-proxy": "11.6"},
    "absent": {"nginx": "no nginx is installed here"},
    "figures": {
        "small": [
            {
                "": {
                    name: {"cpu_us": cost, "per_second": 1e6 / cost}
                    for name, cost in {
                        "http-proxy": 200.0,
                        "uvicorn alone": 40.0,
                        "one call": 70.0,
                        "no policies": 90.0,
                        "ReverseProxy": 100.0,
                    }.items()
                }
            }
        ]
    },
}


def test_the_page_says_what_was_reached_and_who_is_not_there() -> None:
    text = page.whole(RESULTS)
    assert "| CPU per request, beside http-proxy | 0.50 x | at most 0.7 x | yes |" in text
    assert "1 of 1 are reached." in text
    assert "Not measured: `nginx`, as no nginx is installed here." in text
    assert "| nginx |" not in text
    assert "| **ReverseProxy** | 100.0 | 0.50 | 10,000 |" in text
    assert "## A large answer" not in text


def test_the_shares_of_a_request_add_up_to_it() -> None:
    shown = page.shares(RESULTS["figures"]["small"])[-1]
    assert [line.split(" | ")[1:] for line in shown.splitlines()[2:]] == [
        ["40.0", "40% |"],
        ["30.0", "30% |"],
        ["20.0", "20% |"],
        ["10.0", "10% |"],
    ]


def test_every_proxy_of_every_figure_is_known() -> None:
    for figure in page.FIGURES:
        assert set(figure.clients) <= set(CONTENDERS)
        assert {target.entry for target in figure.targets} <= set(figure.entries())


def test_what_is_not_installed_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxies.contenders.shutil.which", lambda *_, **__: None)
    found, absent = present(["nginx", "ReverseProxy"])
    assert list(found) == ["ReverseProxy"]
    assert absent == {"nginx": "no nginx is installed here"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with bench.serving() as port:
        yield port


TINY = {"small": {"seconds": 0.2, "warm": 50}, "large": {"size": 1 << 20}, "events": {"streams": 60, "step": 20}}


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="what a process took is read from /proc")
@pytest.mark.parametrize("key", ["small", "large", "events"])
def test_every_measure_measures(key: str, upstream: int) -> None:
    (figure,) = [one for one in page.FIGURES if one.key == key]
    taken = contend(dataclasses.replace(figure, quick=TINY[key]), "ReverseProxy", upstream, quick=True)
    assert all(taken[field.name] >= 0 for field in figure.fields)


def test_the_page_is_what_the_stored_run_says() -> None:
    stored = json.loads((DOCS / "proxy-performance.json").read_text("utf-8"))
    mend = "run `python benchmarks/proxy.py --render`"
    assert (DOCS / "proxy-performance.md").read_text("utf-8") == page.whole(stored), mend
    assert (DOCS / "proxy-performance.svg").read_text("utf-8") == chart.draw(page.panels(stored)), mend
