"""The comparison: what is counted as what, and that our side runs as it stands."""

import json
import os
from contextlib import ExitStack

import pytest

from fairlead.demo.compare import SIDES, _contestant, _day, _started, cpu_seconds, table
from fairlead.demo.load import Tally, fits
from fairlead.demo.processes import free_port
from fairlead.demo.standin import Stand

ORDER = json.dumps({"id": "1-1", "user": "1"}).encode()
PRICES = {"rope": 12.5, "bell": 99.9}


def test_an_upstream_that_dies_carries_out_and_says_nothing():
    stand = Stand()
    assert stand.answer("orders", "POST", "/orders", ORDER) == (200, {"id": "1-1", "status": "placed"})
    stand.control("/dying")
    assert stand.answer("orders", "POST", "/orders", ORDER) is None
    stand.control("/down")
    assert stand.answer("orders", "POST", "/orders", ORDER) is None
    assert stand.answer("orders", "GET", "/orders?user=1", b"") is None
    assert stand.answer("prices", "GET", "/prices", b"") == (200, PRICES), "the others live on"
    assert stand.control("/report") == (200, {"placed": {"1-1": 2}, "refused": 3})
    assert stand.control("/report") == (200, {"placed": {}, "refused": 0}), "a report begins a new day"


def data(**other):
    return {"user": {"id": "1"}, "prices": PRICES, "history": [], "order": {"id": "1-1"}, **other}


@pytest.mark.parametrize(
    ("answer", "complete", "right"),
    [
        (data(), True, True),
        (data(order=None), False, True),
        (data(history=None), False, True),
        (data(order=None), True, False),
        (data(), False, False),
        (data(user={"id": "2"}), True, False),
        (data(order={"id": "1-2"}), True, False),
        (data(prices=None), False, False),
    ],
)
def test_an_answer_is_looked_into(answer, complete, right):
    assert fits(answer, complete, "1", "1-1") is right


def test_an_answer_without_a_200_is_lost_and_one_about_another_is_wrong():
    tally = Tally()
    tally.count("up", 0.1, "1", "1-1", 502, b"")
    tally.count("up", 0.1, "1", "1-1", 0, b"")
    tally.count("down", 0.1, "2", "1-1", 200, json.dumps({"data": data(), "complete": True}).encode())
    tally.count("back", 0.1, "1", "1-1", 200, json.dumps({"data": data(order=None), "complete": False}).encode())
    assert (tally.lost, tally.wrong, tally.well, len(tally.seconds)) == (2, 1, 2, 4)
    assert tally.confirmed == {"1-1"}
    assert tally.incomplete > 0


def test_the_table_shows_medians_of_figures_and_sums_of_counts():
    seen = {"rps": 1000.0, "well": 2000.0, "p99": 5.0, "cpu": 0.001, "wrong": 0, "doubled": 1, "refused": 7}
    day = {**seen, "healed": 1.0, "answers": 600}
    told = table([[day, {**day, "rps": 3000.0}, {**day, "rps": 1500.0}] for _ in SIDES]).splitlines()
    assert told[0] == "| | tutorials | tutorials, POST sent once | Fairlead |"
    assert "| requests per second | 1,500 | 1,500 | 1,500 |" in told
    assert "| CPU per request, ms | 1.00 | 1.00 | 1.00 |" in told
    assert "| doubled POSTs | 3 | 3 | 3 |" in told


def test_the_cpu_time_of_a_process_is_known():
    assert cpu_seconds(os.getpid()) > 0


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_each_side_answers_rightly_while_all_is_well(side):
    ports = [free_port() for _ in range(4)]
    urls = {
        f"{name}__BASE_URL": f"http://127.0.0.1:{port}"
        for name, port in zip(("USERS", "ORDERS", "PRICES"), ports, strict=False)
    }
    with ExitStack() as running:
        _started(running, "the stand-in", ports[0], "fairlead.demo.standin", *map(str, ports))
        _, port = _contestant(running, side, urls)
        day = _day(port, ports[3], warm=True)
    assert day["answers"] > 0
    assert (day["wrong"], day["doubled"], day["unsaid"], day["refused"]) == (0, 0, 0, 0)
