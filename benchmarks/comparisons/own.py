"""Of our own service: int8 against float32, what the plumbing carries, who waits for whom, and what
a second worker takes.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Collection, Iterator, List

from bert_serving.benchmarks.checks import Measured, named
from bert_serving.benchmarks.closed import ClosedLoad, closed_loop
from bert_serving.benchmarks.comparisons.setting import (
    Setting,
    answered,
    interleaved,
    requests,
    steady,
)
from bert_serving.benchmarks.engine import batch_of, seconds_each
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.pipelined import PipelinedLoad, pipelined
from bert_serving.benchmarks.service import Subject
from bert_serving.benchmarks.wire import Wire
from bert_serving.client import BertClient
from bert_serving.client.frames import encode_texts
from bert_serving.client.protocol import InfoReply
from bert_serving.server.engines import create

__all__ = ["pss_of", "run_echo", "run_int8", "run_memory", "run_priority"]

WORKLOAD = "lognormal:20"
CLIENTS, ROWS = 4, 256
#: Of the plumbing: clients, and for each check the rows of a request and how many of them a client
#: has under way.
PIPELINING = 16
WINDOWS = {"echo-requests": (1, 16), "echo-rows": (256, 2)}
#: The large job, and how many small requests are sent in a round while it runs.
JOB_ROWS, QUICK_JOB_ROWS = 50000, 100_000
PROBES, QUICK_PROBES = 40, 5
#: The length of the rows of the batch that the small requests' time is compared with.
LENGTH = 20
#: Starts of one worker and of two.
STARTS = 2


def run_int8(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Raises BenchmarkError if a graph can't be made or a request fails."""
    model = str(setting.bert_base())
    flags = ("-model_dir", model)
    int8 = setting.server(*flags, "-precision", "int8")
    with int8 as small, setting.server(*flags) as subject:
        batches = requests(subject, WORKLOAD, CLIENTS, ROWS, setting.seed)
        loads = [steady(one.target, batches, setting) for one in (small, subject)]
        ours, theirs = interleaved(
            setting.rounds,
            lambda: loads[0]().tokens_per_second,
            lambda: loads[1]().tokens_per_second,
        )
    yield Measured(named("int8"), ours, theirs, {"figure": "tokens/s", "workload": WORKLOAD})


def run_echo(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Raises BenchmarkError if a request fails."""
    with setting.server("-engine", "echo") as subject:
        for name, (rows, window) in WINDOWS.items():
            if name not in wanted:
                continue
            batches = requests(subject, WORKLOAD, 1, rows, setting.seed, count=16)[0]
            load = PipelinedLoad(PIPELINING, window, setting.seconds, timeout=setting.timeout)
            found = [pipelined(subject.target, batches, load) for _ in range(setting.rounds)]
            ours = tuple(
                one.requests_per_second if rows == 1 else one.rows_per_second for one in found
            )
            details = {"window": window, "generator_busy": [one.busy for one in found]}
            yield Measured(named(name), ours, (), details)


def run_priority(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Each round: a batch's time in the bare engine, then small requests while the job runs.

    Raises BenchmarkError, also if the job is done before the small requests are.
    """
    probes = QUICK_PROBES if setting.quick else PROBES
    with setting.server("-model_dir", str(setting.bert_base())) as subject:
        assert subject.spec is not None
        spec = subject.spec
        rows = max(1, min(spec.max_batch_size, spec.token_budget // LENGTH))
        batch = batch_of(subject, LENGTH, rows, setting.seed)
        job_rows = QUICK_JOB_ROWS if setting.quick else JOB_ROWS
        job = requests(subject, WORKLOAD, 1, job_rows, setting.seed, count=1)[0][0].texts
        small = requests(subject, "fixed:%d" % LENGTH, 1, 1, setting.seed, count=20)
        load = ClosedLoad(1, 1 + probes, 1, setting.timeout)
        is_alone = spec.engine.streams == 1  # as the job's batches are computed
        engine = create(spec.engine.name)
        engine.load(spec.engine, spec.devices[0])
        times: List[float] = []
        waits: List[float] = []
        try:
            for _ in range(setting.rounds):
                times.append(seconds_each(lambda: engine.encode(batch, is_alone), setting.seconds))
                with _large_job(subject, job, setting.timeout):
                    latency = answered(closed_loop(subject.target, small, load)).latency
                assert latency.p95 is not None
                waits.append(latency.p95)
        finally:
            engine.close()
    details = {
        "figure": "seconds",
        "job_rows": job_rows,
        "probes": probes,
        "batch": {"rows": rows, "tokens": rows * LENGTH},
    }
    yield Measured(named("priority"), tuple(waits), tuple(times), details)


@contextmanager
def _large_job(subject: Subject, texts: List[str], timeout: float) -> Iterator[None]:
    """A request that the server computes during the block; then its client goes away.

    Raises BenchmarkError if it doesn't begin within ``timeout`` seconds or ends too soon.
    """
    target = subject.target
    client = BertClient(
        target.ip,
        target.port,
        target.port_out,
        ignore_all_checks=True,
        keys=target.keys,
        server_key=target.server_key,
    )
    with client as asking, Wire(target, 1) as wire:
        wire.wait_until_ready(timeout)
        before = _batches(asking)
        wire.send(0, 0, encode_texts(texts), len(texts))
        deadline = time.monotonic() + timeout
        while _batches(asking) <= before:
            if time.monotonic() > deadline:
                raise BenchmarkError("the large job didn't begin within %g s" % timeout)
        yield
        replies = [one for _, _, one in wire.receive(0) if not isinstance(one, InfoReply)]
        if replies:
            raise BenchmarkError(
                "the job of %d rows ended before the small requests: %s"
                % (len(texts), type(replies[0]).__name__)
            )


def _batches(client: BertClient) -> int:
    """Batches that the server has given to its workers so far."""
    return int(client.server_status["statistic"]["num_batch"])


def run_memory(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """One after the other, for two servers at a time would share pages with each other.

    Raises BenchmarkError.
    """
    model = str(setting.bert_base())

    def measure(workers: int) -> float:
        before = set(workers_of())
        with setting.server("-model_dir", model, "-num_worker", str(workers)) as subject:
            batches = requests(subject, WORKLOAD, CLIENTS, ROWS, setting.seed)
            load = ClosedLoad(CLIENTS, 3, 1, setting.timeout)
            answered(closed_loop(subject.target, batches, load))
            pids = sorted(set(workers_of()) - before)
            if len(pids) != workers:
                raise BenchmarkError("%d workers should run, but %d do" % (workers, len(pids)))
            return float(sum(pss_of(pid) for pid in pids))

    starts = 1 if setting.quick else STARTS
    ours, theirs = interleaved(starts, lambda: measure(2), lambda: measure(1))
    yield Measured(named("memory"), ours, theirs, {"figure": "bytes"})


def workers_of() -> List[int]:
    """Worker processes that this process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            status = (entry / "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        # The name in parentheses may hold anything; the parent is the second word after it.
        parent = int(status.rpartition(")")[2].split()[1])
        if parent == os.getpid() and any(re.fullmatch(rb"worker-\d+", one) for one in words):
            found.append(int(entry.name))
    return found


def pss_of(pid: int) -> int:
    """Bytes of a process, each page divided by the number of processes that share it."""
    text = Path("/proc/%d/smaps_rollup" % pid).read_text(encoding="ascii")
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    if not found:
        raise BenchmarkError("process %d has no PSS in /proc" % pid)
    return int(found.group(1)) * 1024
