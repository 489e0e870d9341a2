"""What happens to a call on its way: each policy is a recipe, a rule and one closure, in a file of its own."""

from __future__ import annotations

from fairlead.core import Policy
from fairlead.policies.circuit import CircuitBreaker
from fairlead.policies.cookies import CookieJar, Cookies
from fairlead.policies.fallback import Fallback
from fairlead.policies.limit import ConcurrencyLimit
from fairlead.policies.observe import Observe
from fairlead.policies.redirect import Redirect
from fairlead.policies.retry import Retry

__all__ = [
    "CircuitBreaker",
    "ConcurrencyLimit",
    "CookieJar",
    "Cookies",
    "Fallback",
    "Observe",
    "Redirect",
    "Retry",
    "standard",
]


def standard(
    *, retries: int = 2, delay: float = 0.05, backoff: float = 2.0, limit: int | None = 100
) -> tuple[Policy, ...]:
    """The pipeline of a client that asks for nothing else, outermost first."""
    return (
        Observe(),
        Retry(retries=retries, delay=delay, backoff=backoff),
        CircuitBreaker(),
        ConcurrencyLimit(limit=limit),
    )
