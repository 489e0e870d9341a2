"""The schema of a route that uses a client lists what its failing is to a caller: made with the schema, and not asked at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from fastapi import FastAPI, routing

from fairlead.errors import FairleadError
from fairlead.fastapi.errors import answer
from fairlead.fastapi.inject import Provider
from fairlead.problem import RESPONSES, SCHEMA, SCHEMA_NAME


class Documented:
    """An application's `openapi`, completed."""

    def __init__(self, app: FastAPI, openapi: Callable[[], dict[str, Any]]) -> None:
        self._app = app
        self._openapi = openapi

    def __call__(self) -> dict[str, Any]:
        schema = self._openapi()
        # With a handler of the application's own, the answers are its own.
        if self._app.exception_handlers.get(FairleadError) is answer:
            complete(schema, set(using(self._app)))
        return schema


def document(app: FastAPI) -> None:
    """Complete what the application tells of itself. May be called again."""
    if not isinstance(app.openapi, Documented):
        app.openapi = Documented(app, app.openapi)  # type: ignore[method-assign]  # as FastAPI's own documentation has it


def complete(schema: dict[str, Any], routes: set[tuple[str, str]]) -> None:
    """Add to these paths and methods the answers that they do not document themselves. What is there stays as it is."""
    used = set()
    for path, method in routes:
        operation = schema.get("paths", {}).get(path, {}).get(method)
        if operation is None:
            continue
        said = operation.setdefault("responses", {})
        for status, (name, _) in RESPONSES.items():
            if status not in said and "5XX" not in said:
                said[status] = {"$ref": f"#/components/responses/{name}"}
                used.add(status)
    if used:
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).setdefault(SCHEMA_NAME, deepcopy(SCHEMA))
        responses = components.setdefault("responses", {})
        for status in sorted(used):
            name, response = RESPONSES[status]
            responses.setdefault(name, deepcopy(response))


def using(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Path and method, as the schema has them, of each route that a client is injected into."""
    route: Any
    for route in routing.iter_route_contexts(app.routes):  # those of included routers with what their inclusion adds
        dependant = getattr(route, "dependant", None)
        if dependant is not None and _uses(dependant):
            for method in getattr(route, "methods", None) or ():
                yield route.path_format, method.lower()


def _uses(dependant: Any) -> bool:
    return isinstance(dependant.call, Provider) or any(_uses(one) for one in dependant.dependencies)
