"""The page of figures as Markdown: what was reached and what was not, and every table behind it."""

from __future__ import annotations

from typing import Any, TypedDict

from figures import FIGURES, OURS, Figure, Round, Target, value

DRAWN = ("small", "tls")
"""The figures that are in the picture."""
MODULES = 8
"""Modules that are listed under what an import takes."""

INTRODUCTION = """\
What a call costs with Fairlead and with other clients, measured side by side in one run of `make bench`, which wrote this page.
`make bench QUICK=1` takes a short look at each figure, and writes nothing."""

READING = """\
Each client runs in a process of its own, one after another, in rounds: a value is the median over the rounds, a ratio the median of the
ratios within a round. CPU is the client's own, user and system, all threads: it is what its calls take from the rest of a service, and
it hardly moves when the machine is busy. Latencies and speeds do. The server is one more process, and costs next to nothing.

- `floor` is no client: a bare `httptools` protocol on a bare transport, the bytes of its request made beforehand, nothing protected.
  It is the price below which nothing in Python can go.
- `fairlead-bare` is `HTTPClient(policies=())`: the engine, with its limits and its timer.
- `fairlead-full` adds all that protects a call: observe with its log, fallback, retry, circuit breaker, concurrency limit; and credentials.
- `httpware` is httpx2 under a retry, a circuit breaker, a bulkhead and a time-out of its own.
- The others come as they are by default."""


class Results(TypedDict, total=False):
    """What a run found, as it is stored."""

    date: str
    minutes: float
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: dict[str, list[Round]]
    imports: list[tuple[str, float]]


def whole(results: Results) -> str:
    found = targets(results)
    missed = [target for target, measured in found if not target.met(measured)]
    parts = [
        "<!-- Written by `make bench` from benchmarks/results.json; never edited. -->",
        "# Performance",
        INTRODUCTION,
    ]
    if panels(results):
        parts.append("![CPU per request, client by client](performance.svg)")
    if found:
        parts += [
            "## What it set out to reach",
            f"{len(found) - len(missed)} of {len(found)} are reached.",
            verdicts(found),
            *[f"*{target.text}*: {target.why}" for target in missed if target.why],
        ]
    parts += ["## How to read it", READING, "## Where it ran", ground(results)]
    for figure in FIGURES:
        if figure.key in results["figures"]:
            parts += section(figure, results)
    return "\n\n".join(parts) + "\n"


def targets(results: Results) -> list[tuple[Target, float]]:
    """Every target that was measured, with what it came to."""
    return [
        (target, measured)
        for figure in FIGURES
        for target in figure.targets
        if (measured := target.measured(results["figures"].get(figure.key, []))) is not None
    ]


def verdicts(found: list[tuple[Target, float]]) -> str:
    rows = ["| | measured | target | reached |", "|---|---:|---:|---|"]
    for target, measured in found:
        unit = f" {target.unit}" if target.unit else " x" if target.than is not None else ""
        number = f"{measured:,.2f}" if unit else f"{measured:,.0f}"
        bound = f"at {'least' if target.least else 'most'} {target.bound:,g}{unit}"
        rows.append(f"| {target.text} | {number}{unit} | {bound} | {'yes' if target.met(measured) else '**no**'} |")
    return "\n".join(rows)


def ground(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    taken = (
        f"; {machine['stolen']:.0%} of its time went to other machines on the same hardware"
        if "stolen" in machine
        else ""
    )
    return "\n".join(
        [
            f"- {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}; load {machine['load']:.1f} when it began{taken}",
            f"- {machine['python']}, OpenSSL {machine['openssl']}",
            f"- {versions}",
            f"- {results['date']}, {results['minutes']:.0f} minutes",
        ]
    )


def section(figure: Figure, results: Results) -> list[str]:
    rounds = results["figures"][figure.key]
    parts = [f"## {figure.title}", figure.text, table(figure, rounds), f"Rounds: {len(rounds)}."]
    if figure.measure == "importing" and "imports" in results:
        rows = [f"| `{name}` | {milliseconds:.1f} |" for name, milliseconds in results["imports"][:MODULES]]
        parts += [
            "Of `import fairlead`, what takes longest by itself (`-X importtime`, which makes everything slower):",
            "\n".join(["| | ms |", "|---|---:|", *rows]),
        ]
    return parts


def table(figure: Figure, rounds: list[Round]) -> str:
    columns = [(case, field) for case in figure.cases for field in figure.fields]
    headers = [f"{case}: {field.header}" if case else field.header for case, field in columns]
    rows = [f"| | {' | '.join(headers)} |", f"|---|{'---:|' * len(columns)}"]
    for client in figure.clients:
        found = [(field.value(rounds, case, client), field.digits) for case, field in columns]
        cells = ["" if measured is None else f"{measured:,.{digits}f}" for measured, digits in found]
        rows.append(f"| {f'**{client}**' if client in OURS else client} | {' | '.join(cells)} |")
    return "\n".join(rows)


def panels(results: Results) -> list[tuple[str, list[tuple[str, float, str]]]]:
    """What is drawn: a title, and each client with its CPU per request and the kind of its bar."""
    drawn = []
    for figure in FIGURES:
        rounds = results["figures"].get(figure.key, [])
        if figure.key in DRAWN and rounds:
            costs = [(client, value(rounds, "cpu_us", ("", client))) for client in figure.clients]
            bars = [(client, cost, kind(client)) for client, cost in costs if cost is not None]
            drawn.append((f"{figure.title}: CPU per request, microseconds (logarithmic)", bars))
    return drawn


def kind(client: str) -> str:
    return "ours" if client in OURS else "floor" if client == "floor" else "peer"
