"""Credentials, added to each attempt by itself, after all waiting: innermost of all policies."""

from fairlead.auth.api_key import ApiKey
from fairlead.auth.basic import Basic
from fairlead.auth.bearer import Bearer

__all__ = ["ApiKey", "Basic", "Bearer"]
