from __future__ import annotations

import json

import pytest

from bert_serving.server.stats import (
    ACTIVE_WITHIN,
    MAX_CLIENTS,
    MAX_INTERVALS,
    RATE_MEMORY,
    STAGES,
    Statistics,
)

#: What 1.10 reports once two requests were seen.
KEYS_1_10 = {
    "num_data_request",
    "num_total_seq",
    "num_sys_request",
    "num_total_request",
    "num_total_client",
    "num_active_client",
} | {
    prefix + name
    for prefix in ("avg_", "min_", "max_", "num_min_", "num_max_")
    for name in (
        "request_per_client",
        "size_per_request",
        "last_two_interval",
        "request_per_second",
    )
}


def test_1_10_keys_are_all_there() -> None:
    statistics = Statistics(0.0)
    statistics.count_request(b"a", 2, 1.0)
    statistics.count_request(b"a", 3, 2.0)
    assert set(statistics.report(3.0)) >= KEYS_1_10


def test_requests_and_commands_are_counted() -> None:
    statistics = Statistics(10.0)
    statistics.count_request(b"a", 2, 11.0)
    statistics.count_request(b"a", 8, 13.0)
    statistics.count_request(b"b", 2, 13.5)
    statistics.count_command(b"c")
    report = statistics.report(14.0)
    assert report["num_data_request"] == 3
    assert report["num_sys_request"] == 1
    assert report["num_total_request"] == 4
    assert report["num_total_seq"] == 12
    assert report["num_total_client"] == 3
    assert report["num_active_client"] == 2
    assert report["avg_request_per_client"] == pytest.approx(4 / 3)
    assert (report["min_request_per_client"], report["num_min_request_per_client"]) == (1, 2)
    assert (report["max_request_per_client"], report["num_max_request_per_client"]) == (2, 1)
    assert report["avg_size_per_request"] == 4
    assert (report["min_size_per_request"], report["num_min_size_per_request"]) == (2, 2)
    assert (report["max_size_per_request"], report["num_max_size_per_request"]) == (8, 1)
    assert report["min_last_two_interval"] == 0.5
    assert report["max_last_two_interval"] == 2.0
    assert report["max_request_per_second"] == 2.0
    assert report["min_request_per_second"] == 0.5


def test_a_report_before_any_request() -> None:
    report = Statistics(0.0).report(1.0)
    assert report["num_total_request"] == 0
    assert report["num_error"] == {}
    assert "avg_size_per_request" not in report


def test_requests_at_the_same_instant_do_not_divide_by_zero() -> None:
    statistics = Statistics(1.0)
    statistics.count_request(b"a", 1, 1.0)
    report = statistics.report(1.0)
    assert report["min_last_two_interval"] == 0.0
    assert "max_request_per_second" not in report


def test_a_client_is_active_for_three_minutes() -> None:
    statistics = Statistics(0.0)
    statistics.count_request(b"a", 1, 0.0)
    statistics.count_request(b"b", 1, 100.0)
    assert statistics.report(ACTIVE_WITHIN - 1)["num_active_client"] == 2
    assert statistics.report(ACTIVE_WITHIN)["num_active_client"] == 1
    assert statistics.report(ACTIVE_WITHIN + 100)["num_active_client"] == 0


def test_only_so_many_clients_and_intervals_are_kept() -> None:
    statistics = Statistics(0.0)
    count = MAX_CLIENTS + 300
    for number in range(count):
        statistics.count_request(b"client %d" % number, 1, float(number))
    statistics.count_request(b"client %d" % (count - 1), 1, float(count))
    report = statistics.report(float(count))
    assert report["num_total_client"] == count
    assert report["num_active_client"] == ACTIVE_WITHIN - 1
    assert len(statistics._requests_of) == MAX_CLIENTS
    assert len(statistics._last_seen) == MAX_CLIENTS
    assert len(statistics._intervals) == MAX_INTERVALS


def test_the_client_that_asked_longest_ago_is_summed_up_first() -> None:
    statistics = Statistics(0.0)
    statistics.count_request(b"regular", 1, 0.0)
    for number in range(MAX_CLIENTS + 10):
        statistics.count_request(b"client %d" % number, 1, 1.0)
        statistics.count_request(b"regular", 1, 1.0)
    assert statistics.report(2.0)["max_request_per_client"] == MAX_CLIENTS + 11


def test_batches_and_errors_are_counted() -> None:
    statistics = Statistics(0.0)
    statistics.count_batch(rows=4, tokens=30, padded_tokens=40)
    statistics.count_batch(rows=2, tokens=60, padded_tokens=60)
    statistics.count_error("deadline")
    statistics.count_error("deadline")
    report = statistics.report(1.0)
    assert report["num_batch"] == 2
    assert report["avg_rows_per_batch"] == 3
    assert report["num_token"] == 90
    assert report["padding_share"] == pytest.approx(0.1)
    assert report["num_error"] == {"deadline": 2}


def test_a_report_is_json() -> None:
    statistics = Statistics(0.0)
    statistics.count_request(b"\xff", 1, 1.0)
    statistics.count_error("internal")
    assert json.loads(json.dumps(statistics.report(2.0))) == statistics.report(2.0)


def test_stages_and_batches_have_histograms() -> None:
    statistics = Statistics(0.0)
    for seconds in (0.0004, 0.003, 0.7, 100.0):
        statistics.count_stage("queue", seconds)
    statistics.count_batch(rows=3, tokens=30, padded_tokens=40)
    histograms = statistics.report(1.0)["histograms"]
    assert set(histograms) == {"stage_%s_seconds" % stage for stage in STAGES} | {"batch_rows"}
    queue = histograms["stage_queue_seconds"]
    assert queue["count"] == 4
    assert queue["sum"] == pytest.approx(100.7034)
    assert dict(map(tuple, queue["buckets"]))["+Inf"] == 4
    assert dict(map(tuple, queue["buckets"]))[0.001] == 1
    assert histograms["batch_rows"]["buckets"][:3] == [[1, 0], [2, 0], [4, 1]]


def test_the_rate_of_rows_forgets() -> None:
    statistics = Statistics(0.0)
    assert statistics.rows_per_second(0.0) == 0
    for number in range(1, 1001):
        statistics.count_rows_done(10, number / 10)
    assert statistics.rows_per_second(100.0) == pytest.approx(100, rel=0.02)
    assert statistics.rows_per_second(100.0 + RATE_MEMORY) == pytest.approx(37, rel=0.02)
    assert statistics.rows_per_second(200.0) < 1e-6


def test_what_workers_do() -> None:
    statistics = Statistics(0.0)
    statistics.count_done("worker-0.0")
    assert statistics.workers({"worker-0.0": 0, "worker-1.0": 2}) == {
        "worker-0.0": {"state": "idle", "batches": 1},
        "worker-1.0": {"state": "busy", "batches": 0},
    }
