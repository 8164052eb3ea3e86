"""The pipeline's statistics, as SHOW_STATUS tells them, as families of Prometheus metrics. Pure.

What isn't there is left out: a server may know less.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Mapping, Optional, Tuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

__all__ = ["families"]

PREFIX = "bert_serving_"

#: Name, key in the statistics, what it is.
COUNTERS = (
    ("requests", "num_data_request", "Requests for vectors that were accepted, of all clients."),
    ("rows", "num_total_seq", "Texts in those requests."),
    ("batches", "num_batch", "Batches that were sent to workers."),
    ("tokens", "num_token", "Tokens in those batches, special ones included."),
)
GAUGES = (
    ("padding_share", "padding_share", "Share of padding in the batches, from 0 to 1."),
    ("open_requests", "num_open_request", "Requests that are accepted and not answered."),
    ("waiting_rows", "num_waiting_row", "Texts that wait for a worker."),
    ("active_clients", "num_active_client", "Clients that asked in the last three minutes."),
)
#: Prefix and suffix of the histograms whose middle is a stage.
STAGE, SECONDS = "stage_", "_seconds"


def families(statistic: Optional[Mapping[str, Any]]) -> Iterator[Metric]:
    """The metrics of one scrape; None: the pipeline didn't answer."""
    is_up = 0 if statistic is None else 1
    yield GaugeMetricFamily(PREFIX + "up", "Whether the pipeline told its statistics.", is_up)
    if statistic is None:
        return
    for name, key, text in COUNTERS:
        if key in statistic:
            yield CounterMetricFamily(PREFIX + name, text, statistic[key])
    for name, key, text in GAUGES:
        if key in statistic:
            yield GaugeMetricFamily(PREFIX + name, text, statistic[key])
    errors = CounterMetricFamily(
        PREFIX + "errors", "Requests that ended in an error.", labels=["kind"]
    )
    for kind, count in sorted(statistic.get("num_error", {}).items()):
        errors.add_metric([kind], count)
    yield errors
    yield from _histograms(statistic.get("histograms", {}))
    yield from _workers(statistic.get("workers", {}))


def _histograms(histograms: Mapping[str, Any]) -> Iterator[Metric]:
    if "batch_rows" in histograms:
        rows = HistogramMetricFamily(PREFIX + "batch_rows", "Texts in a batch.", labels=())
        rows.add_metric([], *_buckets(histograms["batch_rows"]))
        yield rows
    stages = HistogramMetricFamily(
        PREFIX + "stage_seconds",
        "Seconds from a request's acceptance until it was tokenized, its first batch began, and it "
        "was answered; and those that its batches took.",
        labels=["stage"],
    )
    for name, histogram in sorted(histograms.items()):
        if name.startswith(STAGE) and name.endswith(SECONDS):
            stages.add_metric([name[len(STAGE) : -len(SECONDS)]], *_buckets(histogram))
    yield stages


def _buckets(histogram: Mapping[str, Any]) -> Tuple[List[Tuple[str, float]], float]:
    """Upper bounds with cumulative counts, as Prometheus wants them, and the sum."""
    buckets = [(repr(float(bound)), float(count)) for bound, count in histogram["buckets"]]
    if not buckets or buckets[-1][0] != "inf":
        buckets.append(("inf", float(histogram["count"])))
    buckets[-1] = ("+Inf", buckets[-1][1])
    return buckets, histogram["sum"]


def _workers(workers: Mapping[str, Any]) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        PREFIX + "worker_state", "1 for the state that a worker is in.", labels=["worker", "state"]
    )
    batches = CounterMetricFamily(
        PREFIX + "worker_batches", "Batches that a worker computed.", labels=["worker"]
    )
    for name, worker in sorted(workers.items()):
        state.add_metric([name, worker["state"]], 1)
        batches.add_metric([name], worker["batches"])
    return [state, batches]
