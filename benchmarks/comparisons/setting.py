"""What all comparisons share: sizes, models, servers of ours, and taking turns."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.closed import ClosedLoad, ClosedResult, closed_loop
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.random_model import write_model
from bert_serving.benchmarks.rivals.environments import RIVALS, environment, installed_versions
from bert_serving.benchmarks.service import Subject, own_server
from bert_serving.benchmarks.wire import Target
from bert_serving.benchmarks.workloads import Batch
from bert_serving.graph_opt.config import BertConfig

__all__ = ["TINY", "Setting", "answered", "interleaved", "requests", "steady"]

#: For a look at whether all of this works.
TINY = BertConfig(
    vocab_size=1000,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=128,
)
#: Requests of each client that don't count, and the fewest that do.
WARM_UP, LEAST_REQUESTS = 1, 1


@dataclass(frozen=True)
class Setting:
    """How to measure: ``rounds`` of about ``seconds`` for each side.

    ``directory`` keeps models and the rivals' environments, ``scratch`` is removed afterwards.
    ``model`` is a directory to take in place of the random BERT-base, ``environments`` are those
    of rivals that exist already, by name. ``quick``: a tiny model, and no rivals but those.
    """

    directory: Path
    scratch: Path
    rounds: int = 5
    seconds: float = 5.0
    seed: int = 0
    timeout: float = 300.0
    quick: bool = False
    model: str = ""
    environments: Mapping[str, Path] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """What each side computes with."""
        return len(os.sched_getaffinity(0))

    def bert_base(self, layout: str = "huggingface") -> Path:
        """A BERT-base with random weights, made now if there is none. Raises BenchmarkError."""
        if self.model:
            return Path(self.model)
        name = "%s-%s-%d" % ("tiny" if self.quick else "bert-base", layout, self.seed)
        place = self.directory / "models" / name
        if not place.is_dir():
            print("making a model with random weights in %s" % place, file=sys.stderr)
            temporary = place.with_name(".%s.%s" % (place.name, uuid.uuid4().hex))
            try:
                self._make(temporary, layout)
                temporary.rename(place)
            finally:
                shutil.rmtree(str(temporary), ignore_errors=True)
        return place

    def _make(self, place: Path, layout: str) -> None:
        if self.quick:
            write_model(place, TINY, layout, self.seed)
            return
        # A process of its own gives back the memory, and TensorFlow's threads.
        command = [sys.executable, "-m", "bert_serving.benchmarks.random_model", str(place)]
        command += ["--layout", layout, "--seed", str(self.seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            last = done.stdout.decode("utf-8", "replace").strip()[-300:]
            raise BenchmarkError(
                "can't make a model in the layout %s (Google's needs TensorFlow; -model_dir names "
                "one that is there): %s" % (layout, last)
            )

    def rival(self, name: str) -> Path:
        """The environment of a rival, made now if need be. Raises BenchmarkError."""
        if name in self.environments:
            return self.environments[name]
        if self.quick:
            raise BenchmarkError("left out by --quick; name an environment by --%s" % name)
        return environment(RIVALS[name], self.directory / "rivals")

    def versions(self, name: str) -> Dict[str, str]:
        """Of a rival's packages."""
        return installed_versions(self.rival(name), RIVALS[name].packages)

    def place(self, name: str) -> Path:
        """A new directory for files that nobody needs afterwards."""
        place = self.scratch / ("%s-%s" % (name, uuid.uuid4().hex[:8]))
        place.mkdir(parents=True)
        return place

    @contextmanager
    def server(self, *flags: str) -> Iterator[Subject]:
        """A server of ours on the CPU, with these flags. Raises BenchmarkError."""
        with own_server(self.args(*flags)) as subject:
            yield subject

    def args(self, *flags: str) -> argparse.Namespace:
        """Of a server of ours on the CPU; sequences may be as long as the model allows."""
        words = ["-cpu", "-max_seq_len", "NONE", "-wait_till_ready", "120"]
        return get_benchmark_parser().parse_args(words + list(flags))


def requests(
    subject: Subject, workload: str, clients: int, rows: int, seed: int, count: int = 4
) -> List[List[Batch]]:
    """``count`` requests for each client, to be sent in turn."""
    made = subject.workload(workload)
    return [made.batches(count, rows, seed, client) for client in range(clients)]


def steady(
    target: Target, batches: Sequence[Sequence[Batch]], setting: Setting
) -> Callable[[], ClosedResult]:
    """A closed loop that takes about the setting's ``seconds``, found out by a first one.

    Raises BenchmarkError, also later, if a request fails.
    """
    clients = len(batches)
    timeout = setting.timeout
    trial = ClosedLoad(clients, WARM_UP + LEAST_REQUESTS, WARM_UP, timeout)
    rate = answered(closed_loop(target, batches, trial)).requests_per_second
    repeats = WARM_UP + max(LEAST_REQUESTS, math.ceil(setting.seconds * rate / clients))
    load = ClosedLoad(clients, repeats, WARM_UP, timeout)
    return lambda: answered(closed_loop(target, batches, load))


def answered(result: ClosedResult) -> ClosedResult:
    """The result, if no request failed. Raises BenchmarkError."""
    if result.errors:
        raise BenchmarkError("requests failed: %s" % result.errors)
    return result


def interleaved(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Both sides in turn, the other one first each time: what slows down the machine for a while
    then slows down both.
    """
    found: Tuple[List[float], List[float]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            found[side].append((ours, theirs)[side]())
        last = (number + 1, rounds, found[0][-1], found[1][-1])
        print("round %d of %d: %.4g and %.4g" % last, file=sys.stderr)
    return tuple(found[0]), tuple(found[1])
