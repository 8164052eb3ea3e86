"""Against a real bert-as-service 1.10 with TensorFlow 1.15, driven by the same clients."""

from __future__ import annotations

from typing import Collection, Iterator

from bert_serving.benchmarks.checks import Measured, named
from bert_serving.benchmarks.comparisons.setting import Setting, interleaved, requests, steady
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.rivals.processes import bert_as_service

__all__ = ["run"]

#: 4 to 30 words, and [CLS] and [SEP].
MAX_SEQ_LEN = 32
WORKLOAD = "uniform:6-32"
#: For each check: clients, rows of a request, and different requests of a client. Two clients, so
#: that neither server waits for the next large request.
LOADS = {"batch": (2, 256, 2), "clients": (16, 1, 20), "client": (1, 1, 20)}


def run(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """The checks that are wanted. Raises BenchmarkError."""
    place = setting.rival("bert-as-service")
    model = setting.bert_base("google")
    if not (model / "bert_config.json").is_file():
        raise BenchmarkError("bert-as-service needs a model in Google's layout; %s isn't" % model)
    length = ("-max_seq_len", str(MAX_SEQ_LEN))
    rival_server = bert_as_service(place, model, setting.place("bert-as-service"), length)
    with rival_server as target, setting.server("-model_dir", str(model), *length) as subject:
        for name, (clients, rows, count) in LOADS.items():
            if name not in wanted:
                continue
            batches = requests(subject, WORKLOAD, clients, rows, setting.seed, count)
            service = steady(subject.target, batches, setting)
            rival = steady(target, batches, setting)
            ours, theirs = interleaved(
                setting.rounds,
                lambda load=service: load().rows_per_second,  # type: ignore[misc]
                lambda load=rival: load().rows_per_second,  # type: ignore[misc]
            )
            details = {
                "figure": "rows/s",
                "workload": WORKLOAD,
                "clients": clients,
                "rows": rows,
                "versions": setting.versions("bert-as-service"),
            }
            yield Measured(named(name), ours, theirs, details)
