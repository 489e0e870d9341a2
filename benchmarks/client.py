"""What a call costs: Fairlead with everything on beside its peers, interleaved in one run, by CPU per request.

    python benchmarks/client.py [--rounds 5] [--concurrency 50] [--requests 20000]

Each figure is the median over the rounds; each ratio is the median of the ratios within a round, so that a machine whose speed
drifts does no harm.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
ORDER = ("floor", "fairlead-bare", "fairlead-full", "aiohttp", "httpx2")


def contend(name, url, requests, concurrency):
    count = max(2000, requests // 10) if name == "httpx2" else requests
    command = [sys.executable, HERE / "contenders.py", name, url, "--requests", count, "--concurrency", concurrency]
    return json.loads(subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout)


def main(rounds, requests, concurrency):
    server = subprocess.Popen([sys.executable, HERE / "server.py"], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/small"
        runs = [{name: contend(name, url, requests, concurrency) for name in ORDER} for _ in range(rounds)]
    finally:
        server.terminate()
        server.wait()
    print(f"150-byte JSON, keep-alive, concurrency {concurrency}, {rounds} interleaved rounds\n")
    print("| client | CPU per request, us | requests per second | CPU beside the floor | CPU beside aiohttp |")
    print("|---|---|---|---|---|")
    for name in ORDER:
        cost = median(run[name]["cpu_us"] for run in runs)
        speed = median(run[name]["per_second"] for run in runs)
        floor = median(run[name]["cpu_us"] / run["floor"]["cpu_us"] for run in runs)
        aiohttp = median(run[name]["cpu_us"] / run["aiohttp"]["cpu_us"] for run in runs)
        print(f"| {name} | {cost:.1f} | {speed:,.0f} | {floor:.2f} | {aiohttp:.2f} |")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=50)
    chosen = options.parse_args()
    main(chosen.rounds, chosen.requests, chosen.concurrency)
