"""What it costs to pass an answer on, proxy beside proxy in rounds; writes `docs/proxy-performance.md`, its figures and its picture.

    python benchmarks/proxy.py              the whole, about ten minutes
    python benchmarks/proxy.py --quick      a look, a minute; prints, and writes nothing
    python benchmarks/proxy.py --only small --rounds 3 --proxies ReverseProxy http-proxy      some of it
    python benchmarks/proxy.py --render     the page again, from docs/proxy-performance.json

Each proxy of every round is a fresh process; the upstream and the client are two more, and cost next to nothing. It needs Linux: what
a process took is read from `/proc`.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic

import chart
from bench import DOCS, machine, serving, share, stolen
from proxies import page
from proxies.contenders import CONTENDERS
from proxies.page import FIGURES, Figure
from proxies.turns import present, rounds_of

RESULTS = DOCS / "proxy-performance.json"


def run(figures: list[Figure], proxies: list[str], number: int | None, *, quick: bool) -> page.Results:
    began, before = monotonic(), stolen()
    versions, absent = present(proxies)
    results: page.Results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions,
        "absent": absent,
        "figures": {},
    }
    with ExitStack() as stack:
        upstream = stack.enter_context(serving())
        for figure in figures:
            names = [name for name in figure.clients if name in versions]
            count = number or (1 if quick else figure.rounds)
            print(f"{monotonic() - began:5.0f} s  {figure.title}, rounds: {count}", file=sys.stderr, flush=True)
            results["figures"][figure.key] = rounds_of(figure, names, count, upstream, quick=quick)
    results["minutes"] = (monotonic() - began) / 60
    results["machine"]["stolen"] = share(before)
    return results


def write(results: page.Results) -> None:
    (DOCS / "proxy-performance.md").write_text(page.whole(results), encoding="utf-8")
    (DOCS / "proxy-performance.svg").write_text(chart.draw(page.panels(results)), encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", nargs="+", choices=[figure.key for figure in FIGURES])
    options.add_argument("--proxies", nargs="+", choices=list(CONTENDERS))
    options.add_argument("--rounds", type=int)
    options.add_argument("--render", action="store_true")
    given = options.parse_args()
    if given.render:
        write(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    figures = [figure for figure in FIGURES if given.only is None or figure.key in given.only]
    results = run(figures, given.proxies or list(CONTENDERS), given.rounds, quick=given.quick)
    print(page.whole(results))
    if not given.quick and given.only is None and given.proxies is None:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write(results)


if __name__ == "__main__":
    main()
