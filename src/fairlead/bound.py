"""A client's pipeline, bound: once as it is, and once for each way that a call asks for it otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fairlead import composed
from fairlead.body import from_json
from fairlead.core import Pipeline, Policy, Send, Upstream
from fairlead.errors import ConfigError
from fairlead.keywords import DEFAULT, Auth, Default, for_one_call
from fairlead.message import Response

if TYPE_CHECKING:
    from fairlead.policies import CookieJar

KEPT: Final = 64
"""Pipelines that are kept beside a client's own: with credentials of many users, the oldest is made again when it returns."""


class Bound:
    """All over the same upstream, and so over the same state. `send` is the client's own."""

    __slots__ = ("_engine", "_kept", "_owner", "_redirects", "_upstream", "pipeline", "send")

    def __init__(self, owner: type, pipeline: Pipeline, redirects: int, engine: Send, upstream: Upstream) -> None:
        self._owner = owner
        self._redirects = redirects
        self._engine = engine
        self._upstream = upstream
        self._kept: dict[object, Send] = {}
        self.pipeline = pipeline
        self.send = pipeline.bind(engine, upstream)

    def anew(self) -> Bound:
        """The same over states that are new."""
        return Bound(self._owner, self.pipeline, self._redirects, self._engine, self._upstream)

    def otherwise(
        self,
        auth: Auth | Default | None = DEFAULT,
        retry: Policy | Default | None = DEFAULT,
        hedge: Policy | Default | None = DEFAULT,
        fallback: Any = DEFAULT,
        follow_redirects: bool | None = None,
        cookies: CookieJar | Default | None = DEFAULT,
    ) -> Send:
        """The pipeline with what a call asks for; raises ConfigError for what cannot be."""
        asked = auth, retry, hedge, fallback, follow_redirects, cookies
        if cookies is not DEFAULT and cookies is not None:  # a jar lives no longer than whoever made it keeps it
            return self._made(*asked)
        try:
            key = auth, retry, hedge, fallback if fallback is DEFAULT else _told(fallback), follow_redirects, cookies
            known = self._kept.get(key)
        except (
            TypeError,
            ConfigError,
        ):  # a recipe that cannot be hashed is bound for each call, a value that cannot be said never
            return self._made(*asked)
        if known is None:
            known = self._made(*asked)
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = known
        return known

    def _made(
        self,
        auth: Auth | Default | None,
        retry: Policy | Default | None,
        hedge: Policy | Default | None,
        fallback: Any,
        follow_redirects: bool | None,
        cookies: CookieJar | Default | None,
    ) -> Send:
        owner, pipeline = self._owner, self.pipeline
        if auth is not DEFAULT:
            pipeline = pipeline.put("Auth", for_one_call(owner, "auth", auth))
        # A call is tried again or hedged: a hedge does both.
        if retry is not DEFAULT:
            retried = for_one_call(owner, "retry", retry)
            pipeline = (pipeline if retried is None else pipeline.put("Hedge", None)).put("Retry", retried)
        if hedge is not DEFAULT:
            hedged = for_one_call(owner, "hedge", hedge)
            pipeline = (pipeline if hedged is None else pipeline.put("Retry", None)).put("Hedge", hedged)
        if fallback is not DEFAULT:
            from fairlead.policies import Fallback

            pipeline = pipeline.put("Fallback", Fallback.of(fallback))
        if follow_redirects is not None:
            follows = for_one_call(owner, "follow_redirects", follow_redirects)
            # One that stands in the pipeline already has a limit of its own.
            if not (follows and any(getattr(policy, "place", None) == "Redirect" for policy in pipeline.policies)):
                pipeline = pipeline.put("Redirect", composed.redirect(self._redirects) if follows else None)
        if cookies is not DEFAULT:
            jar = for_one_call(owner, "cookies", cookies)
            pipeline = pipeline.put("Cookies", None if jar is None else composed.cookies(jar))
        return pipeline.bind(self._engine, self._upstream)


def _told(answer: Any) -> Any:
    """What a fallback is kept under: a value as its JSON, which tells 1 from True, and a list by what is in it now."""
    if getattr(answer, "place", None) == "Fallback":
        return answer.on, tuple([_told(one) for one in answer.answers])
    if answer is None or callable(answer) or isinstance(answer, Response) or hasattr(answer, "instead"):
        return answer
    return from_json(answer)
