"""A thousand clients before a service that is down for a minute: with a budget for their retries, and without.

    python benchmarks/storm.py [--seed 1] [--sample 20] [--whole] [--render]

Writes docs/storm.json, and from it the page and its picture. `--whole` plays the whole crowd beside the sample and says how far apart
they are, of one of the runs: that takes minutes. `--render` only writes the page and the picture anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from areas import Panel, draw

from fairlead import Timeout
from fairlead.core import Policy
from fairlead.policies import Retry, standard
from fairlead.testing import Outage, Service, Story, simulate
from fairlead.testing.virtual.service import Kind

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "storm.json"

CLIENTS, RATE, SECONDS = 1000, 100.0, 120.0
AT, DOWN = 20.0, 60.0
BACK = AT + DOWN
CAPACITY = 150_000.0
LATENCY = 0.02
LINE, SHORT = 2.0, 0.5
TIMEOUT = Timeout(total=10.0, attempt=1.0)

POLICIES: dict[str, tuple[str, tuple[Policy, ...]]] = {
    "unbounded": ("retries without a budget", (Retry(budget=None),)),
    "budget": ("retries with their budget", (Retry(),)),
    "standard": ("budget, circuit breaker, limit", standard()),
}
KINDS: dict[Kind, str] = {"refused": "connections are refused", "stalled": "it stalls"}


@dataclass(frozen=True)
class Scene:
    """One run: how the service is down, what each client has, how long a line the service keeps."""

    kind: Kind
    policies: str
    line: float = LINE

    @property
    def key(self) -> str:
        return f"{self.kind}, {self.policies}" + ("" if self.line == LINE else f", a line of {self.line:g} s")


DRAWN = [[Scene(kind, policies) for kind in KINDS] for policies in POLICIES]
BESIDE = Scene("stalled", "unbounded", SHORT)
SCENES = [*(row[place] for place in range(len(KINDS)) for row in DRAWN), BESIDE]
COMPARED = [Scene("stalled", "budget")]
"""Of these the whole crowd is played too, when it is asked for."""


def play(scene: Scene, sample: int, seed: int) -> tuple[Story, float, float]:
    """What was seen, how many seconds it took, and how many of a processor's."""
    began, used = perf_counter(), process_time()
    story = simulate(
        clients=CLIENTS,
        rate=RATE,
        seconds=SECONDS,
        policies=POLICIES[scene.policies][1],
        service=Service(latency=LATENCY, capacity=CAPACITY, line=scene.line),
        outages=[Outage(at=AT, seconds=DOWN, kind=scene.kind)],
        timeout=TIMEOUT,
        sample=sample,
        seed=seed,
    )
    return story, perf_counter() - began, process_time() - used


def stored(story: Story, took: float, used: float) -> dict[str, Any]:
    return {
        "took": round(took, 1),
        "used": round(used, 1),
        **{name: [round(number) for number in numbers] for name, numbers in asdict(story).items()},
    }


def told(results: dict[str, Any], scene: Scene, crowd: str = "stories") -> Story:
    """The story as it is stored."""
    return Story(
        **{name: tuple(numbers) for name, numbers in results[crowd][scene.key].items() if name not in {"took", "used"}}
    )


def apart(one: Story, other: Story, width: int = 5) -> float:
    """How far two are apart at most: in what is sent and answered within `width` seconds, as a share of the calls."""
    most = 0.0
    for field in ("sent", "answered"):
        for since in range(0, one.seconds, width):
            here, there = (sum(getattr(story, field)[since : since + width]) for story in (one, other))
            most = max(most, abs(here - there) / (CLIENTS * RATE * width))
    return most


def rows(results: dict[str, Any]) -> list[str]:
    lines = [
        (
            "| the service | each client has | attempts for each call, while it is down | in the worst second | 99 % of the calls are answered again |"
            " calls lost after that minute |"
        ),
        "|---|---|---:|---:|---:|---:|",
    ]
    for scene in SCENES:
        story = told(results, scene)
        line = "" if scene.line == LINE else f", its line {scene.line:g} s short"
        back = story.recovered(BACK)
        since = int(BACK)
        lost = sum(story.offered[since:]) - sum(story.came_through[since:])
        lines.append(
            f"| {KINDS[scene.kind]}{line} | {POLICIES[scene.policies][0]} | {story.amplification(AT, BACK):.2f} |"
            f" {story.peak(AT, BACK):.2f} | {'**never**' if back > SECONDS else 'at once' if back == 0 else f'after {back:.0f} s'} |"
            f" {lost:,.0f} |"
        )
    return lines


def page(results: dict[str, Any]) -> str:
    sample = results["sample"]
    used = [one["used"] for one in results["stories"].values()]
    least, most = min(used), max(used)
    beside = " that had other work as well" if sum(used) < 0.6 * results["took"] * results["cores"] else ""
    parts = [
        "<!-- Written by benchmarks/storm.py from storm.json; never edited. -->",
        "# A retry storm",
        f"""\
{CLIENTS:,} clients call one service {RATE:,.0f} times a second each, whatever it answers: {CLIENTS * RATE:,.0f} calls a second, and it can do
{CAPACITY:,.0f}. Then it is down for {DOWN:.0f} seconds. Each client is a process of its own: what it knows of the others is what the service
does. The policies are the real ones, the time is virtual; `fairlead.testing.simulate` is [described here](testing.md#a-crowd).""",
        "![Attempts and answers per second, with and without a budget, while a service is down and after it](storm.svg)",
        "\n".join(rows(results)),
        f"""\
*Refused*: nobody listens, as after a crash. Every attempt fails at once, so the storm is as high as the retries are many. It ends with the
outage, as none of it is left anywhere.

*Stalled*: the service takes requests and works on none, as one that waits for a lock or its database. {LINE:g} seconds of work wait in line,
when it goes on, for callers who gave up after {TIMEOUT.attempt:g} s and ask again. The service does not know that, and serves them all: whoever
comes meanwhile waits {LINE:g} s for an answer, and gives up as well. Without a budget each of them sends three requests where the service can
do one and a half, so the line stays full, and it never does anything useful again, with nothing wrong but its clients. With one, less
comes in than goes out, and the line is worked off.

A line shorter than its callers' patience helps as well: the last row is the same storm before a service that keeps {SHORT:g} s of work and
refuses the rest. But that is somebody else's service.

With a circuit breaker next to nothing is sent meanwhile. Its clients come back one by one, each with its next probe, and lose the calls
until then.""",
        "## The numbers behind it",
        f"""\
- A call has {TIMEOUT.total:g} s, an attempt {TIMEOUT.attempt:g} s.
{budget_in_words(results)}
- The service: {LATENCY * 1000:.0f} ms in the median, a line of {LINE:g} s of work, served first come, first served.
- Every {sample}th client was played, before a {sample}th of the service, with seed {results["seed"]}. All {len(SCENES)} runs took {results["took"]:.0f} s on
  {results["cores"]} cores{beside}, each {least:.0f} to {most:.0f} s of one ({results["python"]}, {results["date"]}).""",
    ]
    if whole := results.get("whole"):
        compared = [
            f"| {KINDS[scene.kind]} | {POLICIES[scene.policies][0]} | {sum(told(results, scene, 'whole').sent) / 1e6:.1f} |"
            f" {whole[scene.key]['used']:.0f} | {results['stories'][scene.key]['used']:.0f} |"
            f" {apart(told(results, scene, 'whole'), told(results, scene)):.1%} |"
            for scene in SCENES
            if scene.key in whole
        ]
        parts += [
            "## The sample and the whole crowd",
            (
                f"All {CLIENTS:,} clients, beside one in {sample}: the most they are apart, in what is sent or answered within five seconds, as a"
                " share of the calls; and the seconds of a processor that each took."
            ),
            "\n".join(
                [
                    "| the service | each client has | attempts, millions | all of them, s | the sample, s | apart |",
                    "|---|---|---:|---:|---:|---:|",
                    *compared,
                ]
            ),
        ]
    return "\n\n".join(parts) + "\n"


def budget_in_words(results: dict[str, Any]) -> str:
    """What each client had, and what came of it where that needs a word."""
    lines = [f"- {line[0].upper()}{line[1:]}." for line in results["policies"]]
    stories = [told(results, Scene(kind, "budget")) for kind in KINDS]
    if any(story.peak(AT, BACK) > 1.5 * story.amplification(AT, BACK) for story in stories):
        lines.append(
            "- What the window of a budget did not use may be spent at once, and is free again when the window has passed: the peaks."
        )
    return "\n".join(lines)


def picture(results: dict[str, Any]) -> str:
    panels = []
    said = []
    for row in DRAWN:
        panels.append([])
        for scene in row:
            story = told(results, scene)
            panels[-1].append(Panel(POLICIES[scene.policies][0].capitalize(), story.first, story.again, story.answered))
            back = story.recovered(BACK)
            said.append(
                f"{KINDS[scene.kind]}, {POLICIES[scene.policies][0]}: {story.amplification(AT, BACK):.1f} times the load while it is down,"
                f" answers {'never come back' if back > SECONDS else f'are back after {back:.0f} s'}"
            )
    return draw(
        f"{CLIENTS:,} clients, a service down for {DOWN:.0f} s: requests per second",
        ". ".join(said) + ".",
        [text.capitalize() for text in KINDS.values()],
        panels,
        down=(AT, BACK),
        most=CAPACITY,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--sample", type=int, default=20)
    arguments.add_argument("--whole", action="store_true")
    arguments.add_argument("--render", action="store_true")
    given = arguments.parse_args()
    if not given.render:
        run(given.sample, given.seed, whole=given.whole)
    results = json.loads(RESULTS.read_text("utf-8"))
    (DOCS / "storm.md").write_text(page(results), encoding="utf-8")
    (DOCS / "storm.svg").write_text(picture(results), encoding="utf-8")
    print("\n".join(rows(results)))


def run(sample: int, seed: int, *, whole: bool) -> None:
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        began = perf_counter()
        stories = list(pool.map(play, SCENES, [sample] * len(SCENES), [seed] * len(SCENES)))
        results: dict[str, Any] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "cores": cores,
            "sample": sample,
            "seed": seed,
            "policies": [policy.explain() for policy in standard() if policy.place in {"Retry", "CircuitBreaker"}],
            "took": round(perf_counter() - began, 1),
            "stories": {scene.key: stored(*story) for scene, story in zip(SCENES, stories, strict=True)},
        }
        if whole:
            all_of_them = pool.map(play, COMPARED, [1] * len(COMPARED), [seed] * len(COMPARED))
            results["whole"] = {scene.key: stored(*story) for scene, story in zip(COMPARED, all_of_them, strict=True)}
    RESULTS.write_text(
        json.dumps(results, separators=(",", ":")).replace("],", "],\n").replace("{", "{\n") + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
