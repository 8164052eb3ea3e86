"""Algorithmic claims about the scheduler on synthetic traces; nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np
import pytest

from bert_serving.benchmarks.costs import CostModel, CostTable, Sample, fit
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.policies import POLICIES, SMALL_ROWS
from bert_serving.benchmarks.simulation import Setting, Summary, jain, simulate, summarize
from bert_serving.benchmarks.simulator import SWEEPS, Engine, limits_for, main
from bert_serving.benchmarks.traces import TRACES, Client, Trace, read_trace
from bert_serving.server.scheduler import Scheduler

MODEL = CostModel(True, (2e-3, 6e-5, 2.5e-5, 1e-7, 1e-5))
TIDY = CostModel(True, (0.1, 0.01, 0.0, 0.0, 0.0))


def run(trace: Trace, policy: str = "ours", model: CostModel = MODEL, **setting: Any) -> Summary:
    limits = limits_for(model)
    scheduler = Scheduler(limits, SMALL_ROWS, line=POLICIES[policy](limits))
    return summarize(simulate(trace, scheduler, Setting(model, limits, **setting)), trace.clients)


def named(name: str) -> Trace:
    return TRACES[name](MODEL.speed, 1)


def single(length: int, at: Optional[float] = None) -> Client:
    times = None if at is None else np.array([at])
    return Client("single", [np.array([length])], times)


def test_a_request_on_an_idle_server_takes_its_batch_and_the_ways() -> None:
    summary = run(Trace("one", [single(10, 5.0)]), model=TIDY, noise=0.0)
    assert summary.latency["single"][0] == pytest.approx(0.1 + 0.1 + 3 * 0.0003)
    assert summary.batches == 1


def test_a_closed_loop_sends_when_it_is_answered() -> None:
    client = Client("loop", [np.array([10])] * 5, depth=2)
    summary = run(Trace("loop", [client]), model=TIDY, noise=0.0)
    assert summary.batches >= 3


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_row_is_computed_whatever_the_order_of_service(policy: str) -> None:
    trace = named("bursts")
    limits = limits_for(MODEL)
    scheduler = Scheduler(limits, SMALL_ROWS, line=POLICIES[policy](limits))
    result = simulate(trace, scheduler, Setting(MODEL, limits, workers=2))
    assert result.tokens == sum(
        int(lengths.sum()) for client in trace.clients for lengths in client.requests
    )
    assert all(np.isfinite(request.answered) for request in result.requests)
    assert scheduler.open_requests == 0


@pytest.mark.parametrize(("split_tokens", "seconds"), [(0, (0.2, 0.2, 0.2)), (11, (0.1, 0.2, 0.1))])
def test_streams_compute_at_the_same_time_if_each_has_enough(
    split_tokens: int, seconds: Tuple[float, ...]
) -> None:
    clients = [single(10, 0.0), single(10, 0.0), single(10, 1.0)]
    alone = CostModel(True, (0.05, 0.005, 0.0, 0.0, 0.0))
    limits = limits_for(TIDY)
    scheduler = Scheduler(limits, SMALL_ROWS, split_tokens=split_tokens)
    setting = Setting(TIDY, limits, streams=2, alone=alone, noise=0.0)
    found = simulate(Trace("three", clients), scheduler, setting)
    times = [request.answered - request.sent for request in found.requests]
    assert times == pytest.approx(seconds, abs=4 * 0.0003)
    assert found.batches == 3


def test_tables_are_matched_with_those_of_batches_alone() -> None:
    samples = [Sample(rows, rows * 10, 10, 0.01 * rows) for rows in (1, 2, 4)]
    shared = CostTable("a", True, {}, samples, streams=2)
    alone = CostTable("a, alone", True, {}, samples)
    assert Engine.of({"a": shared, "a, alone": alone}, "a").alone == fit(alone)
    assert Engine.of({"a": shared}, "a") == Engine(fit(shared), 2, None)
    assert Engine.of({"a": shared}, "a").speed == 2 * fit(shared).speed


def test_the_same_seed_gives_the_same_result() -> None:
    assert run(named("pieces")) == run(named("pieces"))


def test_a_single_row_passes_a_huge_request() -> None:
    summary = run(named("huge"))
    assert summary.latency["single"][1] < 2.5 * limits_for(MODEL).tokens / MODEL.speed
    assert summary.padding < 0.06


def test_a_huge_request_takes_no_longer_than_by_exact_lengths() -> None:
    ours, exact = run(named("huge")), run(named("huge"), "exact lengths")
    assert ours.tokens_per_second > 0.97 * exact.tokens_per_second


@pytest.mark.parametrize("name", ["greedy", "pieces"])
def test_clients_get_equal_shares(name: str) -> None:
    assert run(named(name)).jain > 0.97
    assert run(named(name), "first come, first served").jain < 0.9


@pytest.mark.parametrize("name", ["closed", "pipelining", "heavy"])
def test_throughput_is_above_that_of_first_come_first_served(name: str) -> None:
    ours, other = run(named(name)), run(named(name), "first come, first served")
    assert ours.tokens_per_second > 1.1 * other.tokens_per_second
    assert ours.latency[next(iter(ours.latency))][0] < other.latency[next(iter(ours.latency))][0]


def test_jain_is_1_for_equal_shares_and_1_nth_for_a_monopoly() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)


def test_a_recorded_trace_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"at": 2.0, "client": "a", "lengths": [5]}\n'
        '{"at": 1.0, "client": "a", "lengths": [7, 8]}\n'
        '{"at": 0.5, "client": "b", "lengths": [3]}\n',
        encoding="utf-8",
    )
    trace = read_trace(path)
    assert [client.label for client in trace.clients] == ["a", "b"]
    first = trace.clients[0]
    assert first.times is not None
    assert first.times.tolist() == [1.0, 2.0]
    assert [lengths.tolist() for lengths in first.requests] == [[7, 8], [5]]


@pytest.mark.parametrize(
    "line", ["{", '{"at": 1, "client": "a"}', '{"at":1,"client":"a","lengths":[0]}']
)
def test_a_line_that_can_not_be_read_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"at": 1, "client": "a", "lengths": [4]}\n%s\n' % line, encoding="utf-8")
    with pytest.raises(BenchmarkError, match="line 2"):
        read_trace(path)


def test_tables_are_printed_and_written(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "results.json"
    assert main(["--traces", "closed", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    results = json.loads(path.read_text(encoding="utf-8"))
    assert [one["variant"] for one in results] == list(POLICIES)
    for policy in POLICIES:
        assert "| %s |" % policy in printed


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_each_constant_can_be_varied(name: str, capsys: Any) -> None:
    assert main(["--traces", "bursts", "--sweep", name]) == 0
    assert capsys.readouterr().out.count("| %s " % name) == len(SWEEPS[name])


def test_an_unknown_table_is_refused_with_the_known_ones(capsys: Any) -> None:
    assert main(["--table", "none"]) == 2
    assert "MiniLM, packed" in capsys.readouterr().err
