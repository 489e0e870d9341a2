"""A file as it was understood, in words: what is called with which numbers, and what waits for what."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.gateway.app import Gateway
from fairlead.gateway.plan import Part, Plan


def explain(gateway: Gateway) -> str:
    """The services with their pipelines, and each aggregate with its parts, stage by stage."""
    lines = [gateway.config.file]
    for client in gateway.clients.values():
        lines += ["", client.explain()]
    for plan in gateway.config.plans:
        bound = f"  within {_seconds(plan.within)}" if plan.within is not None else ""
        lines += ["", f"GET {plan.path}{bound}", *_stages(plan)]
    return "\n".join(lines)


def _stages(plan: Plan) -> Iterator[str]:
    steps = {step.part.name: step for step in plan.steps}
    names = max(map(len, steps))
    calls = max(len(step.part.call) for step in plan.steps)
    for number, stage in enumerate(plan.stages, 1):
        for name in stage:
            step = steps[name]
            told = list(_options(step.part))
            if step.needs:
                told = [f"after {' and '.join(step.needs)}", *told]
            mark = f"{number}." if name == stage[0] else ""
            yield f"  {mark:3} {name:{names}}  {step.part.call:{calls}}  {', '.join(told)}".rstrip()


def _options(part: Part) -> Iterator[str]:
    if part.when is not None:
        yield f"when {part.when.written}"
    if part.required:
        yield "required"
    if part.fallback is not None:
        yield f"or {part.fallback.decode()}"
    if part.within is not None:
        yield f"within {_seconds(part.within)}"
    if part.headers:
        yield f"sends {', '.join(name for name, _ in part.headers)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
