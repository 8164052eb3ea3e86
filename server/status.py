"""What SHOW_CONFIG and SHOW_STATUS answer.

1.10's clients compare ``server_version`` with their own for equality: that key says 1.10.0 for
ever, and ours stands beside it, with the protocol that we speak.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, Dict, Optional, Sequence

import zmq

from bert_serving.client.protocol import PROTOCOL
from bert_serving.client.version import __version__
from bert_serving.server.open_requests import OpenRequests
from bert_serving.server.scheduler import Scheduler
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.stats import Statistics

__all__ = ["describe_service", "describe_work"]

START_TIME = str(datetime.now())


def describe_service(
    spec: ServiceSpec, endpoints: Endpoints, client: bytes, statistics: Optional[Dict[str, Any]]
) -> bytes:
    """The JSON object for ``client``, with ``statistics`` if the status was asked for."""
    answer: Dict[str, Any] = {
        "client": client.decode("ascii", "backslashreplace"),
        "num_process": spec.num_worker + 2,
        "ventilator -> worker": [endpoints.workers],
        "worker -> sink": endpoints.results,
        "ventilator <-> sink": endpoints.events,
        "server_current_time": str(datetime.now()),
        "server_start_time": START_TIME,
        "device_map": list(spec.devices),
        "num_concurrent_socket": 1,
        "python_version": sys.version,
        "pyzmq_version": zmq.pyzmq_version(),
        "zmq_version": zmq.zmq_version(),
        "server_version": "1.10.0",
        "bert_serving_version": __version__,
        "protocol": PROTOCOL,
        "model": spec.model,
        "model_fingerprint": spec.model_fingerprint,
        "generation": spec.generation,
        "engine": spec.engine.name,
        "dimension": spec.engine.dimension,
    }
    if statistics is not None:
        answer["statistic"] = statistics
    return json.dumps(dict(spec.config, **answer)).encode("ascii")


def describe_work(
    statistics: Statistics, requests: OpenRequests, schedulers: Sequence[Scheduler], now: float
) -> Dict[str, Any]:
    """What the service has done and does at the moment."""
    running = {
        name.decode("ascii"): count
        for scheduler in schedulers
        for name, count in scheduler.running().items()
    }
    return dict(
        statistics.report(now),
        num_open_request=len(requests),
        num_open_row=requests.taken.rows,
        num_open_byte=requests.taken.memory,
        num_open_reply_byte=requests.taken.reply,
        num_waiting_row=sum(scheduler.waiting_rows for scheduler in schedulers),
        token_budget=min(scheduler.limits.tokens for scheduler in schedulers),
        workers=statistics.workers(running),
    )
