"""The log records of the contract: levels, fields, and no secret."""

import asyncio
import logging

import pytest

from calls import call
from fairlead.core import Pipeline, Upstream
from fairlead.errors import CircuitOpen, ConnectFailed, Disconnected
from fairlead.observe import log, sinks
from fairlead.policies import CircuitBreaker, Fallback, Observe, Retry
from fairlead.testing import script, virtual_time

STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records(caplog):
    caplog.set_level(logging.DEBUG, logger="fairlead")
    handler = Kept()
    logging.getLogger("fairlead").addHandler(handler)
    yield handler.records
    logging.getLogger("fairlead").removeHandler(handler)


def bound(engine, *inner):
    return Pipeline((Observe(), *inner)).bind(engine.send, Upstream("shop", sinks()))


def extra(record):
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


@virtual_time
async def test_debug_at_the_request_and_info_at_the_answer(records):
    await bound(script(200))(call("GET", "https://shop.test/x?id=7"))
    begun, done = records
    assert (begun.name, begun.levelname, done.levelname) == ("fairlead", "DEBUG", "INFO")
    assert extra(begun) == {"method": "GET", "url": "https://shop.test/x?id=***", "headers": {}, "upstream": "shop"}
    elapsed = done.elapsed_seconds
    assert elapsed > 0
    assert extra(done) == {
        "method": "GET",
        "url": "https://shop.test/x?id=***",
        "status_code": 200,
        "elapsed_seconds": elapsed,
        "attempt": 1,
        "upstream": "shop",
        "error": None,
    }
    assert done.getMessage().startswith("GET https://shop.test/x?id=***: 200 in 0.")


@virtual_time
async def test_no_secret_is_shown(records, caplog):
    headers = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "sid=s3cret", "Accept": "text/plain"}
    await bound(script(503, 200), Retry())(call(url="https://shop.test/x?token=s3cret", headers=headers))
    assert records[0].headers["authorization"] == "***"
    assert records[0].headers["accept"] == "text/plain"
    assert "s3cret" not in caplog.text
    assert "s3cret" not in str([extra(record) for record in records])


@virtual_time
async def test_a_fault_is_an_end_with_its_name(records):
    with pytest.raises(ConnectFailed):
        await bound(script(ConnectFailed))(call())
    assert (records[1].levelname, records[1].status_code, records[1].error) == ("INFO", None, "ConnectFailed")
    assert ": ConnectFailed in 0." in records[1].getMessage()


@virtual_time
async def test_a_cancelled_call_ends_at_debug(records):
    with pytest.raises(asyncio.CancelledError):
        await bound(script(asyncio.CancelledError))(call())
    assert (records[1].levelname, records[1].error) == ("DEBUG", "CancelledError")


@virtual_time
async def test_of_an_error_that_is_not_ours_only_the_name_is_shown(records, caplog):
    with pytest.raises(ValueError, match="s3cret"):
        await bound(script(ValueError("s3cret")))(call())
    assert records[1].error == "ValueError"
    assert "s3cret" not in caplog.text


@virtual_time
async def test_a_retry_is_a_warning(records):
    await bound(script(503, Disconnected, 200), Retry(random=lambda: 1.0))(call())
    _, first, second, done = records
    assert [first.levelname, second.levelname] == ["WARNING", "WARNING"]
    assert (first.cause, first.attempt, first.delay_seconds, first.upstream) == ("503", 1, 0.05, "shop")
    assert second.cause == "Disconnected: disconnected before the answer was complete"
    assert first.getMessage() == "GET https://shop.test/x: attempt 1 failed (503), the next in 0.050 s"
    assert done.attempt == 3


@virtual_time
async def test_a_refusal_is_a_warning(records):
    with pytest.raises(CircuitOpen):
        await bound(script(CircuitOpen))(call())
    assert [record.levelname for record in records] == ["DEBUG", "WARNING", "INFO"]
    assert records[1].getMessage() == "GET https://shop.test/x: refused (CircuitOpen: circuit open)"


@virtual_time
async def test_an_opened_circuit_is_a_warning_and_its_way_back_is_not(records):
    send = bound(script(500, 200), CircuitBreaker(consecutive=1, random=lambda: 1.0))
    await send(call())
    await asyncio.sleep(5)
    await send(call())
    circuit = [record for record in records if hasattr(record, "origin")]
    assert [record.levelname for record in circuit] == ["WARNING", "INFO", "INFO"]
    assert circuit[0].getMessage() == "https://shop.test: circuit opened for 5 s: a failure"
    assert (circuit[0].seconds, circuit[0].reason, circuit[0].upstream) == (5.0, "a failure", "shop")
    assert [record.getMessage() for record in circuit[1:]] == [
        "https://shop.test: circuit half-open",
        "https://shop.test: circuit closed",
    ]


@virtual_time
async def test_a_circuit_in_shadow_says_so_and_one_that_is_forced_open_says_until_when(records):
    upstream = Upstream("shop", (log,))
    shadow = CircuitBreaker(consecutive=1, mode="shadow", random=lambda: 1.0)
    send = shadow.bind(script(500, 200).send, upstream)
    await send(call())
    await asyncio.sleep(5)
    await send(call())
    upstream.states["CircuitBreaker", "default"].force("open")
    assert [record.getMessage() for record in records] == [
        "https://shop.test: circuit would have opened for 5 s: a failure",
        "https://shop.test: circuit half-open in shadow",
        "https://shop.test: circuit closed in shadow",
        "https://shop.test: circuit opened until told otherwise: forced open",
    ]
    assert [(record.shadow, getattr(record, "told", None)) for record in records] == [
        (True, False), (True, None), (True, None), (False, True),
    ]  # fmt: skip


@virtual_time
async def test_a_fallback_is_a_warning(records):
    await bound(script(ConnectFailed), Fallback([]))(call())
    assert [record.levelname for record in records] == ["DEBUG", "WARNING", "INFO"]
    assert (
        records[1].getMessage()
        == "GET https://shop.test/x: fell back to a given answer (ConnectFailed: could not connect)"
    )


@virtual_time
async def test_below_its_level_nothing_is_formatted(caplog, monkeypatch):
    monkeypatch.setattr("fairlead.observe.logs.shown", lambda url: pytest.fail("formatted"))
    caplog.set_level(logging.ERROR, logger="fairlead")
    await bound(script(503, 200), Retry())(call())
    assert caplog.records == []


def test_the_log_is_always_a_sink():
    assert sinks() == (log,)
