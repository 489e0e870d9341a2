"""What a failed call is to our own caller: a status, and a document that tells no secret (RFC 9457).

The upstream's body, its address and the request stay with us: the document names the upstream, the phase, and the inbound
request's id, by which the logs are found.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

from fairlead.errors import FairleadError, Refused, StatusError, TimedOut

MEDIA_TYPE: Final = "application/problem+json"


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
        fields["Retry-After"] = str(max(1, math.ceil(seconds or 0.0)))
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "upstream": error.upstream,
        "phase": error.phase,
        "request_id": request_id,
    }
    return status, fields, document
