"""One client span for each call, by OpenTelemetry's stable HTTP conventions."""

import asyncio
import logging
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from calls import call
from fairlead.core import Pipeline, Upstream
from fairlead.errors import ConnectFailed
from fairlead.observe import log, sinks
from fairlead.observe.traces import Traces
from fairlead.policies import Fallback, Observe, Retry
from fairlead.testing import Pieces, script, virtual_time


@pytest.fixture
def exported():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exported):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider
    provider.shutdown()


def bound(engine, sink, *inner):
    return Pipeline((Observe(), *inner)).bind(engine.send, Upstream("shop", (sink,)))


@virtual_time
async def test_a_call_is_one_client_span(exported, provider):
    await bound(script(200), Traces(provider))(call("GET", "https://shop.test:8443/x?token=s3cret"))
    (span,) = exported.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "server.address": "shop.test",
        "server.port": 8443,
        "url.full": "https://shop.test:8443/x?token=***",
        "http.response.status_code": 200,
    }


@virtual_time
async def test_its_context_is_sent_along_and_it_is_a_child_of_the_callers_span(exported, provider):
    engine = script(503, 200)
    with provider.get_tracer("app").start_as_current_span("request") as parent:
        await bound(engine, Traces(provider), Retry())(call())
    span, _ = exported.get_finished_spans()
    assert span.parent.span_id == parent.get_span_context().span_id
    context = span.get_span_context()
    header = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert [request.headers["traceparent"] for request in engine.requests] == [header, header]


@virtual_time
async def test_retries_are_counted_and_told(exported, provider):
    await bound(script(503, ConnectFailed, 200), Traces(provider), Retry())(call())
    (span,) = exported.get_finished_spans()
    assert span.attributes["http.request.resend_count"] == 2
    assert [(event.name, event.attributes["cause"]) for event in span.events] == [
        ("retry", "503"),
        ("retry", "ConnectFailed: could not connect"),
    ]


@pytest.mark.parametrize("status", [404, 503])
@virtual_time
async def test_a_status_of_400_and_more_is_an_error(exported, provider, status):
    await bound(script(status), Traces(provider))(call())
    (span,) = exported.get_finished_spans()
    assert (span.attributes["error.type"], span.status.status_code) == (str(status), StatusCode.ERROR)


@virtual_time
async def test_a_fault_is_an_error_by_its_class_and_a_cancellation_is_none(exported, provider):
    send = bound(script(ConnectFailed, asyncio.CancelledError), Traces(provider))
    for error in (ConnectFailed, asyncio.CancelledError):
        with pytest.raises(error):
            await send(call())
    fault, cancelled = exported.get_finished_spans()
    assert (fault.attributes["error.type"], fault.status.status_code) == (
        "fairlead.errors.ConnectFailed",
        StatusCode.ERROR,
    )
    assert fault.status.description is None
    assert (cancelled.attributes["error.type"], cancelled.status.status_code) == (
        "asyncio.exceptions.CancelledError",
        StatusCode.UNSET,
    )


@virtual_time
async def test_a_fallback_is_told(exported, provider):
    await bound(script(ConnectFailed), Traces(provider), Fallback([]))(call())
    (span,) = exported.get_finished_spans()
    assert [event.name for event in span.events] == ["fallback"]
    assert span.attributes["http.response.status_code"] == 200


@virtual_time
async def test_a_streamed_calls_span_ends_with_its_body_and_none_is_kept(exported, provider):
    traces = Traces(provider)
    response = await bound(script((200, Pieces(b"a", b"b"))), traces)(call(stream=True))
    assert exported.get_finished_spans() == ()
    await response.aread()
    assert len(exported.get_finished_spans()) == 1
    assert traces._spans == {}


@virtual_time
async def test_a_method_that_is_not_registered_does_not_widen_the_names(exported, provider):
    await bound(script(200), Traces(provider))(call("BREW"))
    (span,) = exported.get_finished_spans()
    assert span.name == "HTTP"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


def test_without_opentelemetry_there_is_a_line_in_the_log_and_no_error(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING, logger="fairlead"):
        assert sinks(traces=True) == (log,)
    assert [record.getMessage() for record in caplog.records] == [
        "no traces: OpenTelemetry is not installed; pip install 'fairlead[otel]'"
    ]


def test_with_it_both_are_sinks():
    logs, traces = sinks(traces=True)
    assert logs is log
    assert isinstance(traces, Traces)
