"""Against what others serve sentence embeddings with today, with the default model."""

from __future__ import annotations

from pathlib import Path
from typing import Collection, Iterator

from bert_serving.benchmarks.checks import Measured, named
from bert_serving.benchmarks.closed import ClosedLoad
from bert_serving.benchmarks.comparisons.setting import (
    Setting,
    answered,
    interleaved,
    requests,
    steady,
)
from bert_serving.benchmarks.http_load import http_closed_loop
from bert_serving.benchmarks.rivals import sentence_transformers_runner
from bert_serving.benchmarks.rivals.processes import SERVED_NAME, Runner, infinity
from bert_serving.server import models

__all__ = ["run_infinity", "run_sentence_transformers"]

#: Of mixed length, as sentences are.
WORKLOAD = "lognormal:21.5"
TEXTS = 1000
CLIENTS = 32
#: Requests of each of these clients in a round, beside the one that doesn't count.
REQUESTS = 8


def default_model() -> Path:
    """Its directory, fetched if need be."""
    return models.resolve(None, lambda remark: None)[0]


def run_sentence_transformers(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Ours: one client sends all texts in one request. Theirs: one call of encode().

    Raises BenchmarkError.
    """
    model, name = default_model(), "sentence-transformers"
    place = setting.rival(name)
    script = Path(sentence_transformers_runner.__file__)
    with setting.server("-model_dir", str(model)) as subject:
        batches = requests(subject, WORKLOAD, 1, TEXTS, setting.seed, count=1)
        texts = batches[0][0].texts
        service = steady(subject.target, batches, setting)
        order = {"model": str(model), "threads": setting.threads, "texts": texts}
        with Runner(place, script, order) as rival:
            ours, theirs = interleaved(
                setting.rounds,
                lambda: service().rows_per_second,
                lambda: TEXTS / rival.seconds(),
            )
    details = {
        "figure": "texts/s",
        "workload": WORKLOAD,
        "mean_tokens": batches[0][0].tokens / TEXTS,
        "versions": setting.versions(name),
    }
    yield Measured(named(name), ours, theirs, details)


def run_infinity(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Both sides: clients that each send one text and wait for its vector.

    Raises BenchmarkError.
    """
    model = default_model()
    place = setting.rival("infinity")
    load = ClosedLoad(CLIENTS, 1 + REQUESTS, 1, setting.timeout)
    rival_server = infinity(place, model, setting.threads, setting.place("infinity"))
    with rival_server as port, setting.server("-model_dir", str(model)) as subject:
        batches = requests(subject, WORKLOAD, CLIENTS, 1, setting.seed, count=20)
        service = steady(subject.target, batches, setting)

        def rival() -> float:
            return answered(http_closed_loop(port, SERVED_NAME, batches, load)).requests_per_second

        rival()  # its first shapes take longer
        ours, theirs = interleaved(setting.rounds, lambda: service().requests_per_second, rival)
    details = {
        "figure": "texts/s",
        "workload": WORKLOAD,
        "clients": CLIENTS,
        "versions": setting.versions("infinity"),
    }
    yield Measured(named("infinity"), ours, theirs, details)
