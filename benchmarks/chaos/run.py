"""A run: a service, clients, faults, and what became of it all."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, List, Sequence

from bert_serving.benchmarks.chaos.actions import Actions
from bert_serving.benchmarks.chaos.clients import (
    TIMEOUT,
    HttpLoad,
    Load,
    Protocol1Load,
    Protocol2Load,
)
from bert_serving.benchmarks.chaos.faults import Fault
from bert_serving.benchmarks.chaos.relay import Relay
from bert_serving.benchmarks.chaos.service import Service
from bert_serving.benchmarks.chaos.tally import Tally
from bert_serving.benchmarks.wire import Target
from bert_serving.client import BertClient

__all__ = ["Order", "Report", "run"]

#: Seconds above its timeout that a request may take before its client counts as hung.
SLACK = 15.0
#: Descriptors that a process may have more at the end: connections that are being closed.
SPARE_DESCRIPTORS = 8
WORKERS = 2
FLAGS = ("-worker_timeout", "3", "-drain_timeout", "20", "-max_client_share", "1")


@dataclass(frozen=True)
class Order:
    """What to do: faults, and of each kind of client how many."""

    faults: Sequence[Fault]
    seed: int
    clients: int
    log: Path


@dataclass
class Report:
    """``problems`` are sentences; without any, all promises were kept."""

    tallies: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    faults: Dict[str, int] = field(default_factory=dict)
    problems: List[str] = field(default_factory=list)
    seconds: float = 0.0
    descriptors: Dict[str, List[int]] = field(default_factory=dict)


def run(order: Order, say: Callable[[str], None]) -> Report:
    """Let it happen. Raises BenchmarkError if the service doesn't start."""
    began = time.monotonic()
    report = Report()
    tallies = {name: Tally() for name in ("protocol 1", "protocol 2", "HTTP", "marked texts")}
    service = Service(order.log, WORKERS, *FLAGS)
    try:
        with ExitStack() as stack:
            relays = [
                stack.enter_context(Relay(port))
                for port in (service.target.port, service.target.port_out)
            ]
            client = stack.enter_context(
                _client_of(Target("127.0.0.1", relays[0].port, relays[1].port))
            )
            before = service.descriptors()
            loads = _loads(order, tallies, service, client)
            for load in loads:
                load.start()
            random = Random(order.seed)  # noqa: S311 - no secrets
            actions = Actions(service, relays, tallies["marked texts"], random)
            _do(order.faults, actions, service, tallies, report, say)
            _settle(service, loads, actions, report)
        if service.is_running:
            _compare(before, service.descriptors(), report)
    finally:
        status = service.stop()
    if status != 0:
        report.problems.append("the service ended with status %s" % status)
    report.tallies = {name: tally.report() for name, tally in tallies.items()}
    _judge(report)
    report.seconds = time.monotonic() - began
    return report


def _client_of(target: Target) -> BertClient:
    return BertClient(ip=target.ip, port=target.port, port_out=target.port_out, check_length=False)


def _loads(
    order: Order, tallies: Dict[str, Tally], service: Service, client: BertClient
) -> List[Load]:
    loads: List[Load] = []
    for number in range(order.clients):
        seed = order.seed * 1000 + 3 * number
        loads.append(Protocol1Load(tallies["protocol 1"], seed, service.target))
        loads.append(Protocol2Load(tallies["protocol 2"], seed + 1, client))
        loads.append(HttpLoad(tallies["HTTP"], seed + 2, service.http_port))
    return loads


def _do(
    faults: Sequence[Fault],
    actions: Actions,
    service: Service,
    tallies: Dict[str, Tally],
    report: Report,
    say: Callable[[str], None],
) -> None:
    for number, fault in enumerate(faults, 1):
        time.sleep(fault.wait)  # the plan's time, not a condition
        if not service.is_running:
            report.problems.append("the service ended before fault %d" % number)
            return
        name = "%s %s" % (fault.kind, fault.target)
        happened = actions.perform(fault)
        if happened:
            report.faults[name] = report.faults.get(name, 0) + 1
        hung = sum(tally.overdue(2 * TIMEOUT + SLACK) for tally in tallies.values())
        if hung:
            report.problems.append("%d clients hang after fault %d" % (hung, number))
        answered = sum(tally.answered for tally in tallies.values())
        say(
            "%d/%d %s%s; %d answered"
            % (number, len(faults), name, "" if happened else ": nobody there", answered)
        )


def _settle(service: Service, loads: List[Load], actions: Actions, report: Report) -> None:
    """Nothing happens any more: the service has to become whole, and all to be answered."""
    if not service.await_whole():
        there = ", ".join(sorted(service.processes()))
        report.problems.append("not all processes are there again, only %s" % there)
    for load in loads:
        load.stop()
    hung = [load for load in loads if not load.join(TIMEOUT + SLACK)]
    if hung:
        report.problems.append("%d clients hang at the end" % len(hung))
    if not actions.close(2 * TIMEOUT + SLACK):
        report.problems.append("a client of marked texts hangs at the end")


def _compare(before: Dict[str, int], after: Dict[str, int], report: Report) -> None:
    for name, count in sorted(after.items()):
        report.descriptors[name] = [before.get(name, 0), count]
        if count > before.get(name, 0) + SPARE_DESCRIPTORS:
            report.problems.append(
                "%s had %d descriptors and has %d" % (name, before.get(name, 0), count)
            )


def _judge(report: Report) -> None:
    for name, tally in report.tallies.items():
        if tally["sent"] != tally["answered"]:
            report.problems.append(
                "%s: %d sent, %d answered" % (name, tally["sent"], tally["answered"])
            )
        wrong = tally["outcomes"].get("wrong", 0) + tally["outcomes"].get("nothing said", 0)
        if wrong:
            report.problems.append("%s: %d wrong" % (name, wrong))
        if not tally["outcomes"].get("right") and tally["sent"]:
            report.problems.append("%s: nothing was right" % name)
