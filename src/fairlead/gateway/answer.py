"""The answer of an aggregate: the parts' own JSON put together as bytes, and what became of each beside it.

A required part without an answer decides the status instead: a problem document (RFC 9457) with the same `services`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from fairlead.errors import Refused, StatusError, TimedOut
from fairlead.gateway.fanout import Outcome
from fairlead.gateway.plan import REQUEST, Plan
from fairlead.gateway.reference import Absent
from fairlead.policies.retry import retry_after

Header = tuple[bytes, bytes]
Answer = tuple[int, bytes, list[Header]]
"""Status, body and headers."""
encode: Final = msgspec.json.Encoder().encode
JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
NO_STORE: Final = (b"cache-control", b"no-store")
_COMPLETE: Final = (b"fairlead-complete", b"true")
_INCOMPLETE: Final = (b"fairlead-complete", b"false")


class Frame:
    """The bytes of a plan's answer that never change: the names of its parts, in order."""

    def __init__(self, plan: Plan) -> None:
        self.names = [step.part.name for step in plan.steps]
        self.data = [(b"," if at else b"") + encode(name) + b":" for at, name in enumerate(self.names)]
        self.fallbacks = [step.part.fallback or b"null" for step in plan.steps]

    def fill(self, outcomes: Sequence[Outcome]) -> tuple[bytes, list[Header]]:
        """The body and the headers: complete if every part is ok, or left out by its own `when`."""
        pieces = [b'{"data":{']
        for name, outcome, fallback in zip(self.data, outcomes, self.fallbacks, strict=True):
            pieces += (name, fallback if outcome.content is None else outcome.content)
        complete = all(outcome.status == "ok" or outcome.unwanted for outcome in outcomes)
        pieces += (b'},"complete":', b"true" if complete else b"false", b',"services":{')
        for name, outcome in zip(self.data, outcomes, strict=True):
            pieces += (name, _told(outcome))
        errors = [
            {"service": name, "error": outcome.error}
            for name, outcome in zip(self.names, outcomes, strict=True)
            if outcome.status in {"error", "timeout"}
        ]
        pieces += (b'},"errors":', encode(errors), b"}")
        return b"".join(pieces), [JSON, _COMPLETE] if complete else [JSON, _INCOMPLETE, NO_STORE]

    def failure(self, failed: int, outcomes: Sequence[Outcome | None], request_id: str) -> Answer:
        """Status, body and headers where the required part `failed` has no answer."""
        settled = [outcome or Outcome("skipped", error="not needed any more") for outcome in outcomes]
        cause = settled[failed].cause
        status, seconds = verdict(cause)
        return problem(
            status,
            f"{self.names[failed]}: {settled[failed].error}",
            retry_after=seconds,
            upstream=getattr(cause, "upstream", None),
            phase=getattr(cause, "phase", None),
            request_id=request_id,
            services={name: msgspec.Raw(_told(outcome)) for name, outcome in zip(self.names, settled, strict=True)},
        )


def verdict(cause: Exception | None) -> tuple[int, float | None]:
    """The status that a required part's failure gives the whole, and after how many seconds to come again."""
    if isinstance(cause, TimedOut):
        return 504, None
    if isinstance(cause, Refused):
        return 503, cause.retry_after
    if isinstance(cause, StatusError) and cause.status_code in {429, 503}:
        return 503, retry_after(cause.response.headers)
    if isinstance(cause, Absent) and cause.names <= REQUEST:
        return 400, None
    return 502, None


def problem(status: int, detail: str, *, retry_after: float | None = None, **members: Any) -> Answer:
    """A problem document (RFC 9457). Members that are None are left out."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    told |= {name: value for name, value in members.items() if value is not None}
    headers = [_PROBLEM, NO_STORE]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after))))
    return status, encode(told), headers


def _told(outcome: Outcome) -> bytes:
    if outcome.error is None:
        return b'{"status":"%b","ms":%.2f}' % (outcome.status.encode(), outcome.ms)
    return encode({"status": outcome.status, "ms": outcome.ms, "error": outcome.error})
