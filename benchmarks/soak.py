"""Whether a service grows: memory and open files of its processes under a load that doesn't end.

``python -m bert_serving.benchmarks.soak`` puts 80 % of what clients of all kinds get together on a
service with the echo engine, and looks at its processes every ten seconds. The exit status is 0 if
none has 5 % more memory at the end than after five minutes, nor more open files.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from bert_serving.benchmarks.chaos.clients import HttpLoad, Load, Protocol1Load, Protocol2Load
from bert_serving.benchmarks.chaos.service import Service
from bert_serving.benchmarks.chaos.tally import Tally
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.plots import draw
from bert_serving.benchmarks.results import Figure, Series
from bert_serving.client import BertClient

__all__ = ["Curve", "growth", "main"]

#: Share of what the service can do.
SHARE = 0.8
#: Seconds in which that is found out, and between two looks.
MEASURING, BETWEEN = 20.0, 10.0
#: Seconds after which the memory counts as settled, and what it may grow by then.
SETTLED, MOST_GROWTH = 300.0, 1.05
#: Files that may come and go with connections.
SPARE_DESCRIPTORS = 8
MEGABYTE = 1e6


@dataclass
class Curve:
    """What was seen: seconds, and by process bytes and open files."""

    seconds: List[float] = field(default_factory=list)
    resident: Dict[str, List[int]] = field(default_factory=dict)
    descriptors: Dict[str, List[int]] = field(default_factory=dict)

    def add(self, seconds: float, resident: Dict[str, int], descriptors: Dict[str, int]) -> None:
        """One look."""
        self.seconds.append(seconds)
        for kept, seen in ((self.resident, resident), (self.descriptors, descriptors)):
            for name, value in seen.items():
                kept.setdefault(name, []).append(value)


def growth(curve: Curve, settled: float) -> Tuple[Dict[str, float], List[str]]:
    """By process, memory at the end as a multiple of that at ``settled`` seconds; and what is wrong
    with it in words. Pure.
    """
    first = next(place for place, at in enumerate(curve.seconds) if at >= settled)
    ratios, problems = {}, []
    for name, sizes in curve.resident.items():
        if len(sizes) != len(curve.seconds):
            problems.append("%s was not there all the time" % name)
            continue
        ratios[name] = round(sizes[-1] / sizes[first], 4)
        if ratios[name] > MOST_GROWTH:
            problems.append("the memory of %s grew by %.1f %%" % (name, 100 * ratios[name] - 100))
        files = curve.descriptors[name]
        if files[-1] > files[first] + SPARE_DESCRIPTORS:
            problems.append("%s had %d open files and has %d" % (name, files[first], files[-1]))
    return ratios, problems


def _run(minutes: float, clients: int, log: Path) -> Tuple[Curve, Dict[str, Tally]]:
    tallies = {name: Tally() for name in ("protocol 1", "protocol 2", "HTTP")}
    service = Service(log, 2)
    curve = Curve()
    try:
        with ExitStack() as stack:
            target = service.target
            client = stack.enter_context(
                BertClient(port=target.port, port_out=target.port_out, check_length=False)
            )
            loads: List[Load] = []
            for seed in range(0, 3 * clients, 3):
                loads.append(Protocol1Load(tallies["protocol 1"], seed, target))
                loads.append(Protocol2Load(tallies["protocol 2"], seed + 1, client))
                loads.append(HttpLoad(tallies["HTTP"], seed + 2, service.http_port))
            for load in loads:
                load.start()
            _slow_down(loads, tallies, clients)
            began = time.monotonic()
            while time.monotonic() < began + 60 * minutes:
                time.sleep(BETWEEN)  # the time between two looks, not a condition
                passed = time.monotonic() - began
                curve.add(passed, service.resident(), service.descriptors())
            for load in loads:
                load.stop()
            if not all(load.join(60.0) for load in loads):
                raise BenchmarkError("a client hangs")
    finally:
        service.stop()
    return curve, tallies


def _slow_down(loads: List[Load], tallies: Dict[str, Tally], clients: int) -> None:
    """Find out what they get together, and let each ask for its share of that."""
    time.sleep(MEASURING)  # the time that is measured, not a condition
    for number, tally in enumerate(tallies.values()):
        each = tally.answered / MEASURING / clients
        for load in loads[number :: len(tallies)]:
            load.interval = 1 / max(SHARE * each, 0.1)


def _draw(curve: Curve, path: Path) -> None:
    minutes = tuple(second / 60 for second in curve.seconds)
    series = tuple(
        Series(name, minutes, tuple(size / MEGABYTE for size in sizes))
        for name, sizes in sorted(curve.resident.items())
        if len(sizes) == len(minutes)
    )
    figure = Figure(
        name=path.stem,
        kind="lines",
        title="Memory of the service's processes under 80 % of its capacity",
        x_label="minutes",
        y_label="resident memory, MB",
        series=series,
    )
    draw(figure, path.parent)


def main(argv: Optional[List[str]] = None) -> int:
    """Run it, and print a report as JSON."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=3, help="of each kind of three")
    parser.add_argument("--plot", type=Path, help="where to draw the curve, a .png")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        curve, tallies = _run(args.minutes, args.clients, Path(scratch) / "log")
    ratios, problems = growth(curve, min(SETTLED, 30 * args.minutes))
    wrong = sum(tally.outcomes["wrong"] for tally in tallies.values())
    if wrong:
        problems.append("%d answers were wrong" % wrong)
    if args.plot is not None:
        _draw(curve, args.plot)
    report = {
        "minutes": args.minutes,
        "clients": {name: tally.report() for name, tally in tallies.items()},
        "megabytes_at_the_end": {
            name: round(sizes[-1] / MEGABYTE, 1) for name, sizes in curve.resident.items()
        },
        "growth": ratios,
        "descriptors_at_the_end": {name: n[-1] for name, n in curve.descriptors.items()},
        "problems": problems,
    }
    print(json.dumps(report, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
