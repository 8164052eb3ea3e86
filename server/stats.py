"""Counters of the service, in the shape in which 1.10 reported them.

Pure: ``now`` is passed in, in seconds on any steady clock.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from typing import Any, Deque, Dict, Mapping

from bert_serving.server.histograms import BATCH_ROWS, SECONDS, Histogram

__all__ = ["STAGES", "Statistics"]

#: Seconds of a request from its acceptance until it was tokenized, and until its first batch was
#: sent to a worker; from then until the last one was computed; and from acceptance until then.
STAGES = ("tokenize", "queue", "compute", "total")
#: Seconds after which what was computed counts a third in the rate of rows.
RATE_MEMORY = 5.0

#: Clients of which the numbers are kept one by one; older ones are only summed up.
MAX_CLIENTS = 500
#: Intervals between requests that are kept.
MAX_INTERVALS = 200
#: A client is active if it asked within this many seconds.
ACTIVE_WITHIN = 180.0


class Statistics:
    """What the ventilator has seen."""

    def __init__(self, now: float) -> None:
        self._requests_of: "OrderedDict[bytes, int]" = OrderedDict()
        self._last_seen: "OrderedDict[bytes, float]" = OrderedDict()
        self._evicted_clients = 0
        self._sizes: "Counter[int]" = Counter()
        self._intervals: Deque[float] = deque(maxlen=MAX_INTERVALS)
        self._last_request = now
        self._counts: "Counter[str]" = Counter()
        self._errors: "Counter[str]" = Counter()
        self._batches_of: "Counter[str]" = Counter()  # by worker
        self._batch_rows = Histogram(BATCH_ROWS)
        self._stages = {name: Histogram(SECONDS) for name in STAGES}
        self._recent_rows = 0.0  # computed rows, the older the less
        self._recent_at = now

    def count_command(self, client: bytes) -> None:
        """A command came, such as SHOW_CONFIG."""
        self._counts["sys"] += 1
        self._count_client(client)

    def count_request(self, client: bytes, rows: int, now: float) -> None:
        """A request of ``rows`` texts was accepted."""
        self._counts["data"] += 1
        self._counts["seq"] += rows
        self._sizes[rows] += 1
        self._intervals.append(now - self._last_request)
        self._last_request = now
        self._count_client(client)
        self._last_seen[client] = now
        self._last_seen.move_to_end(client)
        if len(self._last_seen) > MAX_CLIENTS:
            self._last_seen.popitem(last=False)

    def count_cancelled(self) -> None:
        """A client no longer wanted an open request."""
        self._counts["cancelled"] += 1

    def count_expired_replies(self, count: int) -> None:
        """So many replies were thrown away, since their client is gone or doesn't read."""
        self._counts["expired"] += count

    def count_error(self, kind: str) -> None:
        """A request ended in an error of this kind."""
        self._errors[kind] += 1

    def count_batch(self, rows: int, tokens: int, padded_tokens: int) -> None:
        """A batch was sent to a worker."""
        self._counts["batches"] += 1
        self._counts["batch_rows"] += rows
        self._counts["tokens"] += tokens
        self._counts["padded_tokens"] += padded_tokens
        self._batch_rows.observe(rows)

    def count_done(self, worker: str) -> None:
        """A worker has computed a batch."""
        self._batches_of[worker] += 1

    def count_stage(self, stage: str, seconds: float) -> None:
        """A request was through one of the ``STAGES``."""
        self._stages[stage].observe(seconds)

    def count_rows_done(self, rows: int, now: float) -> None:
        """So many rows' requests are completed."""
        self._recent_rows = self._decayed(now) + rows
        self._recent_at = now

    def rows_per_second(self, now: float) -> float:
        """At what rate rows were completed lately."""
        return self._decayed(now) / RATE_MEMORY

    def _decayed(self, now: float) -> float:
        return self._recent_rows * math.exp((self._recent_at - now) / RATE_MEMORY)

    def report(self, now: float) -> Dict[str, Any]:
        """1.10's keys, and those that this server adds."""
        counts = self._counts
        report: Dict[str, Any] = {
            "num_data_request": counts["data"],
            "num_total_seq": counts["seq"],
            "num_sys_request": counts["sys"],
            "num_total_request": counts["data"] + counts["sys"],
            "num_total_client": self._evicted_clients + len(self._requests_of),
            "num_active_client": sum(
                1 for seen in self._last_seen.values() if now - seen < ACTIVE_WITHIN
            ),
        }
        report.update(_summary("request_per_client", Counter(self._requests_of.values())))
        report.update(_summary("size_per_request", self._sizes))
        report.update(_summary("last_two_interval", Counter(self._intervals)))
        report.update(
            _summary("request_per_second", Counter(1 / i for i in self._intervals if i > 0))
        )
        padded = counts["padded_tokens"]
        report.update(
            num_batch=counts["batches"],
            avg_rows_per_batch=counts["batch_rows"] / max(1, counts["batches"]),
            num_token=counts["tokens"],
            padding_share=1 - counts["tokens"] / padded if padded else 0.0,
            num_cancelled=counts["cancelled"],
            num_expired_reply=counts["expired"],
            num_error=dict(self._errors),
            histograms=dict(
                {"stage_%s_seconds" % name: one.report() for name, one in self._stages.items()},
                batch_rows=self._batch_rows.report(),
            ),
        )
        return report

    def workers(self, running: Mapping[str, int]) -> Dict[str, Any]:
        """Of each worker, by how many batches it holds: what it does and has computed."""
        return {
            name: {"state": "busy" if count else "idle", "batches": self._batches_of[name]}
            for name, count in running.items()
        }

    def _count_client(self, client: bytes) -> None:
        self._requests_of[client] = self._requests_of.get(client, 0) + 1
        self._requests_of.move_to_end(client)
        if len(self._requests_of) > MAX_CLIENTS:
            self._requests_of.popitem(last=False)
            self._evicted_clients += 1


def _summary(name: str, values: Mapping[Any, int]) -> Dict[str, float]:
    """Average and extremes of ``values``, each with the number of times that it came."""
    if not values:
        return {}
    least, most = min(values), max(values)
    return {
        "avg_" + name: sum(v * n for v, n in values.items()) / sum(values.values()),
        "min_" + name: least,
        "max_" + name: most,
        "num_min_" + name: values[least],
        "num_max_" + name: values[most],
    }
