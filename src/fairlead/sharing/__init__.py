"""Processes keep to one limit through a store that none of them waits for: without it, each goes on with its share."""

from fairlead.sharing.store import RedisStore

__all__ = ["RedisStore"]
