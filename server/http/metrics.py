"""What is counted of HTTP itself, and the text that Prometheus scrapes."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from bert_serving.server.http.statistics import PREFIX, families

__all__ = ["CONTENT_TYPE", "HttpMetrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HttpMetrics:
    """Counters of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            PREFIX + "http_requests",
            "HTTP requests that were answered; status 499: the client was gone before.",
            ["path", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            PREFIX + "http_request_seconds",
            "Seconds from an HTTP request's headers to the end of its answer.",
            ["path"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._in_progress = Gauge(
            PREFIX + "http_requests_in_progress",
            "HTTP requests that are being served.",
            registry=self._registry,
        )

    def begin(self) -> None:
        """A request's headers are here."""
        self._in_progress.inc()

    def end(self, path: str, method: str, status: int, seconds: float) -> None:
        """It is answered."""
        self._in_progress.dec()
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self, statistic: Optional[Mapping[str, Any]]) -> bytes:
        """All metrics; ``statistic`` are those of the pipeline, None if it didn't answer."""
        pipeline: Any = _Families(families(statistic))
        return generate_latest(self._registry) + generate_latest(pipeline)


class _Families:
    """What stands for a registry of metrics that are made up for one scrape."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
