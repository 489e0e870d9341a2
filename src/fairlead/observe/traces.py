"""One OpenTelemetry CLIENT span for each call, by the stable HTTP conventions, and its W3C context sent along.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (1.23 and later). A span is kept from Started to Finished, which
comes exactly once, so none stays open. Imported only where tracing is asked for: it takes as long to import as a TLS handshake.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Hashable
from logging import getLogger
from typing import TYPE_CHECKING, Final

from fairlead.events import Event, FellBack, Finished, GaveUp, Hedged, Retried, Started
from fairlead.observe.logs import told
from fairlead.url import shown
from fairlead.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})


class Traces:
    """The sink. `provider` is OpenTelemetry's global one unless given. Raises ImportError without `opentelemetry-api`."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        from opentelemetry import propagate, trace

        self._trace = trace
        self._inject = propagate.inject
        schema = "https://opentelemetry.io/schemas/1.23.0"
        self._tracer = trace.get_tracer("fairlead", __version__, provider, schema)
        self._spans: dict[Hashable, Span] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Finished):
            self._end(event)
        elif isinstance(event, Retried | GaveUp | FellBack) and (span := self._spans.get(event.call)) is not None:
            name = {Retried: "retry", GaveUp: "gave_up", FellBack: "fallback"}[type(event)]
            span.add_event(name, {"cause": told(event.cause)})
        elif isinstance(event, Hedged) and (span := self._spans.get(event.call)) is not None:
            span.add_event("hedge", {"attempt": event.attempt})

    def _start(self, event: Started) -> None:
        request = event.request
        known = request.method in METHODS
        attributes: dict[str, str | int] = {
            "http.request.method": request.method if known else "_OTHER",
            "server.address": request.origin.host,
            "server.port": request.origin.port,
            "url.full": shown(request.url),
        }
        if not known:
            attributes["http.request.method_original"] = request.method
        kind = self._trace.SpanKind.CLIENT
        span = self._tracer.start_span(request.method if known else "HTTP", kind=kind, attributes=attributes)
        self._spans[event.call] = span
        self._inject(request.headers, context=self._trace.set_span_in_context(span))

    def _end(self, event: Finished) -> None:
        span = self._spans.pop(event.call, None)
        if span is None:
            return
        try:
            if event.attempt > 1:
                span.set_attribute("http.request.resend_count", event.attempt - 1)
            fault = None
            if event.response is not None:
                status = event.response.status_code
                span.set_attribute("http.response.status_code", status)
                fault = str(status) if status >= 400 else None
            if event.error is not None:
                fault = f"{type(event.error).__module__}.{type(event.error).__qualname__}"
            if fault is not None:
                span.set_attribute("error.type", fault)
                if not isinstance(event.error, CancelledError):
                    span.set_status(self._trace.StatusCode.ERROR)
        finally:
            span.end()


def traces() -> tuple[Traces, ...]:
    """The sink, or none, and a line in the log, where OpenTelemetry is not installed."""
    try:
        return (Traces(),)
    except ImportError:
        getLogger("fairlead").warning("no traces: OpenTelemetry is not installed; pip install 'fairlead[otel]'")
        return ()
