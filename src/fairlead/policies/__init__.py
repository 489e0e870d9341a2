"""What happens to a call on its way: each policy is a recipe, a rule and one closure, in a file of its own.

Those that a plain client has not are imported when they are asked for: a program that starts often should not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from fairlead.core import Policy
from fairlead.policies.budget import Budget
from fairlead.policies.circuit import CircuitBreaker
from fairlead.policies.fallback import Fallback
from fairlead.policies.limit import ConcurrencyLimit
from fairlead.policies.observe import Observe
from fairlead.policies.retry import Retry

if TYPE_CHECKING:
    from fairlead.policies.adaptive import Aimd, Gradient
    from fairlead.policies.cookies import CookieJar, Cookies
    from fairlead.policies.deadline import DeadlineHeader
    from fairlead.policies.hedge import Hedge
    from fairlead.policies.rate import RateLimit
    from fairlead.policies.redirect import Redirect

__all__ = [
    "Aimd",
    "Budget",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "CookieJar",
    "Cookies",
    "DeadlineHeader",
    "Fallback",
    "Gradient",
    "Hedge",
    "Observe",
    "RateLimit",
    "Redirect",
    "Retry",
    "standard",
]

_LATER: Final = {
    "Aimd": "adaptive",
    "CookieJar": "cookies",
    "Cookies": "cookies",
    "DeadlineHeader": "deadline",
    "Gradient": "adaptive",
    "Hedge": "hedge",
    "RateLimit": "rate",
    "Redirect": "redirect",
}
"""Names, and the modules they come from."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


def standard(
    *, retries: int = 2, delay: float = 0.05, backoff: float = 2.0, limit: int | Aimd | Gradient | None = 100
) -> tuple[Policy, ...]:
    """The pipeline of a client that asks for nothing else, outermost first."""
    return (
        Observe(),
        Retry(retries=retries, delay=delay, throttled_delay=max(1.0, delay), backoff=backoff),
        CircuitBreaker(),
        ConcurrencyLimit(limit=limit),
    )
