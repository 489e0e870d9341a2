"""What is left of a call's time, told to the upstream: in numbers, then for each attempt."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call
from fairlead.auth import ApiKey, Bearer
from fairlead.caller import within
from fairlead.client import HTTPClient
from fairlead.core import Pipeline, Timeout, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, Knowledge
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, DeadlineHeader, Redirect, Retry
from fairlead.testing import script, virtual_time

NAMES = ["X-Request-Timeout", "x-envoy-expected-rq-timeout-ms", "grpc-timeout"]


def bound(engine, *outer, header="X-Request-Timeout"):
    return Pipeline((*outer, DeadlineHeader(header))).bind(engine.send, Upstream("shop"))


def told(engine, header="X-Request-Timeout"):
    return [request.headers.get(header) for request in engine.requests]


class TestFormat:
    @pytest.mark.parametrize(
        ("header", "seconds", "value"),
        [
            ("X-Request-Timeout", 30.0, "30"),
            ("X-Request-Timeout", 100.0, "100"),
            ("X-Request-Timeout", 2.5, "2.5"),
            ("X-Request-Timeout", 0.0409, "0.04"),
            ("X-Request-Timeout", 1.2349, "1.234"),
            ("X-Request-Timeout", 0.001, "0.001"),
            ("X-Request-Timeout", 1e12, "1000000000000"),
            ("x-envoy-expected-rq-timeout-ms", 1.2349, "1234"),
            ("X-Timeout-MS", 30.0, "30000"),
            ("grpc-timeout", 1.2349, "1234m"),
            ("grpc-timeout", 99999.999, "99999999m"),
            ("grpc-timeout", 100000.9, "100000S"),
            ("GRPC-Timeout", 1e9, "16666666M"),
            ("grpc-timeout", 1e10, "2777777H"),
            ("grpc-timeout", 1e99, "99999999H"),
        ],
    )
    def test_seconds_are_written_as_the_name_asks(self, header, seconds, value):
        assert DeadlineHeader(header).write(seconds) == value

    @pytest.mark.parametrize("header", NAMES)
    @pytest.mark.parametrize("seconds", [0.000999, 0.0, -0.0001, -5.0])
    def test_less_than_a_millisecond_is_nothing(self, header, seconds):
        assert DeadlineHeader(header).write(seconds) is None

    @given(st.sampled_from(NAMES), st.floats(0.001, 90_000.0))
    def test_what_is_written_is_read_and_is_never_more(self, header, seconds):
        recipe = DeadlineHeader(header)
        read = recipe.read(recipe.write(seconds).encode())
        assert seconds - 0.001 < read <= seconds * (1 + 1e-15)  # but for the last place of a float

    @given(st.sampled_from(NAMES), st.floats(0.001, 1e300))
    def test_no_deadline_is_too_long_to_be_written(self, header, seconds):
        value = DeadlineHeader(header).write(seconds)
        assert value[0] in "0123456789"
        assert "e" not in value
        assert header != "grpc-timeout" or len(value) <= 9

    @pytest.mark.parametrize(
        ("header", "value", "seconds"),
        [
            ("X-Request-Timeout", b" 2.5\t", 2.5),
            ("X-Request-Timeout", b"007", 7.0),
            ("X-Request-Timeout", b"4.9998120000000004", 4.999812),
            ("X-Request-Timeout", b"999999999", 999999999.0),
            ("x-timeout-ms", b"250", 0.25),
            ("grpc-timeout", b"250m", 0.25),
            ("grpc-timeout", b"2H", 7200.0),
            ("grpc-timeout", b"3M", 180.0),
            ("grpc-timeout", b"4S", 4.0),
            ("grpc-timeout", b"500000u", 0.5),
            ("grpc-timeout", b"50000000n", 0.05),
        ],
    )
    def test_it_reads_what_others_write(self, header, value, seconds):
        assert DeadlineHeader(header).read(value) == pytest.approx(seconds)

    @pytest.mark.parametrize("header", NAMES)
    @pytest.mark.parametrize(
        "value",
        [
            b"", b" ", b"0", b"0.0", b"0m", b"-1", b"-1m", b"+1", b"nan", b"NaN", b"inf", b"Infinity", b"1e3", b"1e3m", b"0x10", b"1_0",
            b"2, 3", b"2;3", b"1.", b".5", b"2s", b"2 m", b"9" * 400, b"9" * 400 + b"m", b"\xb2", "٣".encode(), b"1\x00", b"1\n", b"two",
        ],
    )  # fmt: skip
    def test_what_is_no_number_above_0_is_as_if_it_were_not_there(self, header, value):
        assert DeadlineHeader(header).read(value) is None

    @given(st.sampled_from(NAMES), st.binary(max_size=20))
    def test_whatever_is_sent_it_is_a_time_or_nothing(self, header, value):
        seconds = DeadlineHeader(header).read(value)
        assert seconds is None or 0 < seconds < 1e12


@virtual_time
async def test_an_attempt_tells_what_is_left_of_the_calls_time():
    engine = script(200, 200)
    send = bound(engine)
    asked = call(timeout=3.0)
    await asyncio.sleep(0.75)
    await send(asked)
    assert told(engine) == ["2.25"]


@virtual_time
async def test_each_attempt_tells_its_own():
    engine = script(2.0, 503, 1.5, 503, 200)
    await bound(engine, Retry(delay=1.0, random=lambda: 0.5))(call(timeout=Timeout(total=9.0, attempt=3.0)))
    assert told(engine) == ["3", "3", "3"]
    engine = script(2.0, 503, 1.5, 503, 200)
    await bound(engine, Retry(delay=1.0, random=lambda: 0.5))(call(timeout=6.0))
    assert [float(value) for value in told(engine)] == pytest.approx([6.0, 3.5, 1.0])


@virtual_time
async def test_an_attempt_that_another_may_follow_has_less_than_the_call():
    engine = script(then=200)
    await bound(engine, Retry())(call(timeout=30.0))
    await bound(engine, Retry())(call("POST", timeout=30.0))
    assert told(engine) == ["10", "30"]


@virtual_time
async def test_of_a_stream_the_whole_time_is_told_as_an_attempts_bounds_each_silence():
    engine = script(200)
    (await bound(engine)(call(stream=True, timeout=Timeout(total=9.0, attempt=2.0)))).close()
    assert told(engine) == ["9"]


@virtual_time
async def test_the_wait_in_line_is_taken_off():
    engine = script(2.0, 200, 200)
    send = bound(engine, ConcurrencyLimit(limit=1))
    await asyncio.gather(send(call(timeout=9.0)), send(call(timeout=9.0)))
    assert told(engine) == ["9", "7"]


@virtual_time
async def test_without_a_deadline_nothing_is_told():
    engine = script(then=200)
    await bound(engine)(call(timeout=None))
    (await bound(engine)(call(timeout=Timeout(total=None, attempt=5.0), stream=True))).close()
    await bound(engine)(call(timeout=Timeout(total=None, attempt=5.0)))
    assert told(engine) == [None, None, "5"]


@virtual_time
async def test_a_field_set_by_hand_is_sent_as_it_stands():
    engine = script(200)
    await bound(engine)(call(headers={"x-request-timeout": "77"}))
    assert [request.headers.get_list("x-request-timeout") for request in engine.requests] == [["77"]]


@virtual_time
async def test_the_callers_request_is_never_changed():
    asked = call()
    request = asked.request
    await bound(script(200))(asked)
    assert request.headers.raw == []


@virtual_time
async def test_with_less_than_a_millisecond_left_nothing_is_sent():
    engine = script()
    asked = call(timeout=1.0)
    await asyncio.sleep(0.9995)
    with pytest.raises(DeadlineExceeded, match="less than a millisecond is left") as caught:
        await bound(engine)(asked)
    assert (caught.value.knowledge, caught.value.phase) == (Knowledge.NOT_SENT, "waiting")
    assert engine.requests == []


@virtual_time
async def test_that_is_no_verdict_and_is_not_tried_again():
    upstream = Upstream("shop")
    engine = script()
    send = Pipeline((Retry(), CircuitBreaker(consecutive=1), DeadlineHeader())).bind(engine.send, upstream)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await send(call(timeout=0.0005))
    assert engine.requests == []


@virtual_time
async def test_each_hop_tells_it_elsewhere_too():
    engine = script(1.0, (302, b"", {"Location": "//other.test/"}), 200)
    await bound(engine, Redirect())(call(timeout=9.0))
    assert told(engine) == ["9", "8"]


@virtual_time
async def test_a_client_tells_it_by_a_keyword():
    async with HTTPClient("https://shop.test", engine=script(then=200), deadline_header="X-Timeout-Ms") as shop:
        await shop.get("/", timeout=4.0)
        with within(0.3):
            await shop.post("/")
        async with shop.stream("GET", "/", timeout=20.0):
            pass
    assert told(shop.engine, "x-timeout-ms") == ["4000", "300", "20000"]
    assert "deadline header: X-Timeout-Ms" in shop.explain()


@virtual_time
async def test_the_environment_and_the_class_may_say_it(monkeypatch):
    class Shop(HTTPClient, base_url="https://shop.test", deadline_header="X-Left"):
        pass

    async with Shop(engine=script(200)) as shop:
        await shop.get("/", timeout=4.0)
    assert told(shop.engine, "x-left") == ["4"]
    monkeypatch.setenv("SHOP__DEADLINE_HEADER", "X-Rest")
    async with Shop(engine=script(200)) as shop:
        await shop.get("/", timeout=4.0)
    assert told(shop.engine, "x-rest") == ["4"]


@virtual_time
async def test_a_plain_client_tells_nothing():
    async with HTTPClient("https://shop.test", engine=script(200)) as shop:
        with within(1.0):
            await shop.get("/")
    assert told(shop.engine) == [None]


@virtual_time
async def test_a_timeout_that_never_comes_is_none():
    engine = script(200)
    asked = call(timeout=None)
    asked.deadline = inf
    await bound(engine)(asked)
    assert told(engine) == [None]


@pytest.mark.parametrize("header", ["", "a b", "X-Ä", "Host", "content-length", "TE", "X:", None, b"X", 7])
def test_what_can_be_no_such_field_is_refused(header):
    with pytest.raises(ConfigError, match=r"DeadlineHeader: header=.* use"):
        DeadlineHeader(header)


def test_it_stands_after_every_wait_and_before_what_is_signed():
    Pipeline((ConcurrencyLimit(), DeadlineHeader(), Bearer("s3cret")))
    with pytest.raises(ConfigError, match="DeadlineHeader cannot stand outside ConcurrencyLimit"):
        Pipeline((DeadlineHeader(), ConcurrencyLimit()))
    with pytest.raises(ConfigError, match="ApiKey cannot stand outside DeadlineHeader"):
        Pipeline((ApiKey("k"), DeadlineHeader()))
