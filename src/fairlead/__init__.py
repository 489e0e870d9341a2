"""FastAPI for the calls you make: a class per external API, safe to use, and a gateway built of the same parts.

Policies are imported when the first client is built, or somebody asks for one: a program that starts often may have none.
"""

from typing import TYPE_CHECKING, Any

from fairlead.auth import ApiKey, Bearer
from fairlead.client import BaseAPIClient, HTTPClient
from fairlead.core import Timeout
from fairlead.endpoint import delete, get, head, options, patch, post, put
from fairlead.errors import (
    ConfigError,
    DecodeError,
    FairleadError,
    Refused,
    StatusError,
    TimedOut,
    TransportError,
)
from fairlead.fetch import fetch_all
from fairlead.gather import as_completed, gather, race
from fairlead.message import Request, Response

if TYPE_CHECKING:
    from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Fallback, Retry

__all__ = [
    "ApiKey",
    "BaseAPIClient",
    "Bearer",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "ConfigError",
    "DecodeError",
    "FairleadError",
    "Fallback",
    "HTTPClient",
    "Refused",
    "Request",
    "Response",
    "Retry",
    "StatusError",
    "TimedOut",
    "Timeout",
    "TransportError",
    "as_completed",
    "delete",
    "fetch_all",
    "gather",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "race",
]


def __getattr__(name: str) -> Any:
    if name not in {"CircuitBreaker", "ConcurrencyLimit", "Fallback", "Retry"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fairlead import policies

    return getattr(policies, name)
