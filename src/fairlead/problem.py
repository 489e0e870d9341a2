"""What a failed call is to our own caller: a status, and a document that tells no secret (RFC 9457).

The upstream's body, its address and the request stay with us: the document names the upstream, the phase, and the inbound
request's id, by which the logs are found.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final, get_args

from fairlead.errors import FairleadError, Phase, Refused, StatusError, TimedOut

MEDIA_TYPE: Final = "application/problem+json"
SCHEMA_NAME: Final = "UpstreamProblem"
SCHEMA: Final[dict[str, Any]] = {
    "title": SCHEMA_NAME,
    "description": "A service that this one asks did not do its part (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "upstream", "phase", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "enum": [502, 503, 504]},
        "upstream": {"type": ["string", "null"], "description": "The name of the service."},
        "phase": {
            "type": ["string", "null"],
            "enum": [*get_args(Phase), None],
            "description": "How far the call came.",
        },
        "request_id": {"type": "string", "description": "By which the logs are found; `X-Request-ID` says it too."},
    },
}
"""The document in JSON Schema, as OpenAPI 3.1 has it."""


def _documented(status: int, description: str, **headers: dict[str, Any]) -> dict[str, Any]:
    example = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status,
        "upstream": "Weather", "phase": "waiting" if status == 503 else "head", "request_id": "0b5c4cde8f3f4b6f",
    }  # fmt: skip
    content = {"schema": {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}, "example": example}
    asked = {"X-Request-ID": {"description": "By which the logs are found.", "schema": {"type": "string"}}}
    return {"description": description, "headers": asked | headers, "content": {MEDIA_TYPE: content}}


RESPONSES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "502": ("UpstreamFailed", _documented(502, "A service that is asked for this failed.")),
    "503": (
        "UpstreamUnavailable",
        _documented(
            503,
            "A service that is asked for this is overloaded, or left alone for a while.",
            **{"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
        ),
    ),
    "504": ("UpstreamTimedOut", _documented(504, "A service that is asked for this did not answer in time.")),
}
"""By status, the name and the description of each answer, as a component of an OpenAPI document."""


def verdict(error: BaseException | None) -> tuple[int, float | None]:
    """The status, and of a 503 the seconds after which to come again, where they are known.

    504 for a time-out; 503 for our own refusal, and for an upstream that answered 429 or 503; 502 for everything else.
    """
    if isinstance(error, TimedOut):
        return 504, None
    if isinstance(error, Refused):
        return 503, error.retry_after
    if isinstance(error, StatusError) and error.status_code in {429, 503}:
        return 503, error.retry_after
    return 502, None


def problem(error: FairleadError, request_id: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, header fields and document. A 503 always says when to come again: in a second, where nobody knows."""
    status, seconds = verdict(error)
    fields = {"Cache-Control": "no-store", "X-Request-ID": request_id}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        known = seconds if seconds is not None and math.isfinite(seconds) else 0.0
        fields["Retry-After"] = str(max(1, math.ceil(known)))
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "upstream": error.upstream,
        "phase": error.phase,
        "request_id": request_id,
    }
    return status, fields, document
