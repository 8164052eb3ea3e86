from __future__ import annotations

from typing import Any, Dict, List

from prometheus_client.parser import text_string_to_metric_families

from bert_serving.server.http.metrics import HttpMetrics

STATISTIC: Dict[str, Any] = {
    "num_data_request": 7,
    "num_total_seq": 70,
    "num_batch": 5,
    "num_token": 900,
    "padding_share": 0.25,
    "num_open_request": 2,
    "num_waiting_row": 11,
    "num_active_client": 1,
    "num_error": {"deadline": 3, "bad_request": 1},
    "histograms": {
        "batch_rows": {"buckets": [[1, 2], [16, 5]], "sum": 70, "count": 5},
        "stage_queue_seconds": {"buckets": [[0.1, 6]], "sum": 0.5, "count": 7},
        "stage_total_seconds": {"buckets": [[0.1, 1], ["inf", 7]], "sum": 3.5, "count": 7},
    },
    "workers": {
        "worker-0": {"state": "busy", "batches": 3},
        "worker-1": {"state": "idle", "batches": 2},
    },
}


def samples(text: bytes) -> Dict[Any, float]:
    """Each sample's value by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(text.decode("utf-8")):
        for sample in family.samples:
            found[(sample.name,) + tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_all_that_the_pipeline_tells() -> None:
    found = samples(HttpMetrics().text(STATISTIC))
    assert found[("bert_serving_up",)] == 1
    assert found[("bert_serving_requests_total",)] == 7
    assert found[("bert_serving_rows_total",)] == 70
    assert found[("bert_serving_batches_total",)] == 5
    assert found[("bert_serving_tokens_total",)] == 900
    assert found[("bert_serving_padding_share",)] == 0.25
    assert found[("bert_serving_open_requests",)] == 2
    assert found[("bert_serving_waiting_rows",)] == 11
    assert found[("bert_serving_errors_total", ("kind", "deadline"))] == 3
    assert found[("bert_serving_batch_rows_bucket", ("le", "16.0"))] == 5
    assert found[("bert_serving_batch_rows_bucket", ("le", "+Inf"))] == 5
    assert found[("bert_serving_batch_rows_sum",)] == 70
    queue: List[Any] = [("stage", "queue")]
    assert found[("bert_serving_stage_seconds_count", *queue)] == 7
    assert found[("bert_serving_stage_seconds_bucket", ("le", "0.1"), *queue)] == 6
    assert found[("bert_serving_stage_seconds_bucket", ("le", "+Inf"), ("stage", "total"))] == 7
    busy = ("state", "busy"), ("worker", "worker-0")
    assert found[("bert_serving_worker_state", *busy)] == 1
    assert found[("bert_serving_worker_batches_total", ("worker", "worker-1"))] == 2


def test_a_pipeline_that_tells_little_or_nothing() -> None:
    assert samples(HttpMetrics().text({}))[("bert_serving_up",)] == 1
    found = samples(HttpMetrics().text(None))
    assert found[("bert_serving_up",)] == 0
    assert [name for name, *_ in found if "requests_total" in name] == []


def test_http_requests_are_counted() -> None:
    metrics = HttpMetrics()
    metrics.begin()
    metrics.begin()
    metrics.end("/encode", "POST", 200, 0.02)
    found = samples(metrics.text(None))
    assert found[("bert_serving_http_requests_in_progress",)] == 1
    labels = ("method", "POST"), ("path", "/encode"), ("status", "200")
    assert found[("bert_serving_http_requests_total", *labels)] == 1
    path = ("path", "/encode")
    assert found[("bert_serving_http_request_seconds_bucket", ("le", "0.01"), path)] == 0
    assert found[("bert_serving_http_request_seconds_bucket", ("le", "0.025"), path)] == 1
