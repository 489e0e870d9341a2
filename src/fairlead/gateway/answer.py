"""The answer of an aggregate: the parts' own JSON put together as bytes, and what became of each beside it.

A required part without an answer decides the status instead: a problem document (RFC 9457) with the same `services`.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from fairlead.errors import FairleadError
from fairlead.gateway.fanout import Outcome
from fairlead.gateway.plan import REQUEST, Plan
from fairlead.gateway.reference import Absent
from fairlead.problem import MEDIA_TYPE, problem

Header = tuple[bytes, bytes]
Answer = tuple[int, bytes, list[Header]]
"""Status, body and headers."""
encode: Final = msgspec.json.Encoder().encode
JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", MEDIA_TYPE.encode())
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
        cause, detail = settled[failed].cause, f"{self.names[failed]}: {settled[failed].error}"
        services = {name: msgspec.Raw(_told(outcome)) for name, outcome in zip(self.names, settled, strict=True)}
        if isinstance(cause, Absent) and cause.names <= REQUEST:
            return refusal(400, detail, services=services)
        error = cause if isinstance(cause, FairleadError) else FairleadError(detail)
        status, fields, document = problem(error, request_id)
        headers = [_PROBLEM, _INCOMPLETE, *[(name.lower().encode(), value.encode()) for name, value in fields.items()]]
        return status, encode({**document, "detail": detail, "services": services}), headers


def refusal(status: int, detail: str, *more: Header, **members: Any) -> Answer:
    """A problem of the request itself."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    return status, encode(document), [_PROBLEM, NO_STORE, *more]


def _told(outcome: Outcome) -> bytes:
    if outcome.error is None:
        return b'{"status":"%b","ms":%.2f}' % (outcome.status.encode(), outcome.ms)
    return encode({"status": outcome.status, "ms": outcome.ms, "error": outcome.error})
