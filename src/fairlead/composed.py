"""What a client's keywords come to: its engine, its store, its pipeline. Each is imported here, where somebody asked for it.

A program that starts often may build no client, and most clients have neither jar nor store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.core import Engine, Pipeline, Policy, Store
from fairlead.keywords import Chosen, for_one_call

if TYPE_CHECKING:
    from fairlead.policies import CookieJar


def engine(chosen: Chosen) -> Engine:
    from fairlead import engines

    return engines.create(
        chosen["engine"],
        engines.Wire(
            verify=chosen["verify"],
            cert=chosen["cert"],
            proxy=chosen["proxy"],
            trust_env=chosen["trust_env"],
            uds=chosen["uds"],
            guard=chosen["guard"],
            http2=chosen["http2"],
            max_keepalive_connections=chosen["max_keepalive_connections"],
            keepalive_expiry=chosen["keepalive_expiry"],
            max_connection_age=chosen["max_connection_age"],
        ),
    )


def store(told: Store | str) -> Store:
    if isinstance(told, str):
        from fairlead.sharing import RedisStore

        return RedisStore(told)
    return told


def pipeline(client: Any, chosen: Chosen, *, hooked: bool) -> Pipeline:
    """The client's own policies or the standard ones, with what its other keywords add to them.

    `hooked`: whether its class has a `_retry_with_backoff` of its own, which then stands in the place of Retry.
    """
    policies = chosen["policies"]
    if policies is None:
        from fairlead.policies import standard

        policies = standard(
            retries=chosen["max_retries"],
            delay=chosen["retry_delay"],
            backoff=chosen["retry_backoff"],
            limit=chosen["max_connections"],
        )
    made = Pipeline(tuple(policies)).put("Auth", for_one_call(type(client), "auth", client.auth))
    if hooked:
        from fairlead.policies.hook import Hook

        made = made.put("Retry", Hook(client, made))
    if chosen["follow_redirects"]:
        made = made.put("Redirect", redirect(chosen["max_redirects"]))
    if chosen["deadline_header"] is not None:
        from fairlead.policies import DeadlineHeader

        made = made.put("DeadlineHeader", DeadlineHeader(chosen["deadline_header"]))
    return made if chosen["cookies"] is None else made.put("Cookies", cookies(chosen["cookies"]))


def redirect(limit: int) -> Policy:
    from fairlead.policies import Redirect

    return Redirect(limit=limit)


def cookies(jar: CookieJar) -> Policy:
    from fairlead.policies import Cookies

    return Cookies(jar)
