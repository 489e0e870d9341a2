"""Credentials, added to each attempt by itself, after all waiting: innermost of all policies."""

from typing import TYPE_CHECKING, Any

from fairlead.auth.api_key import ApiKey
from fairlead.auth.bearer import Bearer

if TYPE_CHECKING:
    from fairlead.auth.basic import Basic

__all__ = ["ApiKey", "Basic", "Bearer"]


def __getattr__(name: str) -> Any:
    if name != "Basic":  # which most clients write as a pair
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fairlead.auth.basic import Basic

    return Basic
