"""Running a target on inputs that nobody meant, within limits of memory and time.

A target is a function of bytes that may raise only what it documents. Anything else it raises, more
memory or more time than a small input can need, is a finding. Inputs are mutated from seeds and
from the corpus; those that reach lines of ours that none reached before are mutated further.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, Type

__all__ = [
    "CORPUS",
    "Finding",
    "Fuzzer",
    "Summary",
    "Target",
    "corpus_of",
    "limit_memory",
    "name_of",
]

CORPUS = Path(__file__).parent / "corpus"
ROOTS = tuple(
    str(Path(__file__).resolve().parents[2] / folder) + os.sep
    for folder in ("client", "server", "graph_opt")
)
#: Inputs are kept below it; what is larger tells nothing new.
MAX_BYTES = 256 * 1024
#: Address space beyond what is there before the first mutated input.
SPARE_BYTES = 1 << 30
#: What one input may add to the memory that the process has at its peak.
MEMORY_PER_INPUT = 512 << 20
#: Of the processor, while lines are traced. A loop in C code is only ended by the second.
SECONDS_PER_INPUT = 10.0
SECONDS_UNTIL_KILLED = 60.0
#: Mutants of one seed, at most.
STACKED = 4

Mutate = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """``run`` may raise ``allowed``. ``seeds`` makes inputs that are well-formed."""

    name: str
    run: Callable[[bytes], None]
    allowed: Tuple[Type[BaseException], ...]
    seeds: Callable[[], List[bytes]]
    mutate: Mutate


@dataclass(frozen=True)
class Finding:
    """An input that a target shouldn't have let through. ``where`` tells findings apart."""

    where: str
    data: bytes
    report: str


@dataclass
class Summary:
    """What a run did."""

    inputs: int = 0
    lines: int = 0
    slowest: float = 0.0
    slowest_input: bytes = b""
    findings: Dict[str, Finding] = field(default_factory=dict)


class _TooSlow(BaseException):
    """Not an Exception: what catches those must not catch it."""


class Fuzzer:
    """Runs one target; ``current`` is a file that has the input, should the process die of it."""

    def __init__(self, target: Target, seed: int, current: Optional[Path], guided: bool) -> None:
        self._target = target
        self._random = random.Random("%s %d" % (target.name, seed))
        self._current = current
        self._lines: Optional[Set[Tuple[Any, int]]] = set() if guided else None
        self.summary = Summary()
        signal.signal(signal.SIGVTALRM, _give_up)

    def replay(self, inputs: Sequence[bytes]) -> None:
        """Run ``inputs`` as they are."""
        for data in inputs:
            self._run(data)

    def fuzz(self, inputs: Optional[int], seconds: Optional[float]) -> None:
        """Run mutated inputs until one of the two is reached."""
        pool = self._target.seeds()
        self.replay(pool)  # by which all that is needed is imported
        limit_memory()
        corpus = corpus_of(self._target.name)
        self.replay(corpus)
        pool += corpus
        end = None if seconds is None else time.monotonic() + seconds
        last = None if inputs is None else self.summary.inputs + inputs
        while (last is None or self.summary.inputs < last) and (
            end is None or time.monotonic() < end
        ):
            data = self._random.choice(pool)
            for _ in range(self._random.randint(1, STACKED)):
                data = self._target.mutate(self._random, data, pool)
            if len(data) <= MAX_BYTES and self._run(data):
                pool.append(data)

    def _run(self, data: bytes) -> bool:
        """Whether lines were reached that no input reached before."""
        if self._current is not None:
            self._current.write_bytes(data)
        before = -1 if self._lines is None else len(self._lines)
        peak, started = _peak(), time.process_time()
        error = self._call(data)
        took = time.process_time() - started
        self.summary.inputs += 1
        if took > self.summary.slowest:
            self.summary.slowest, self.summary.slowest_input = took, data
        grown = _peak() - peak
        if error is not None and not isinstance(error, self._target.allowed):
            self._add(Finding(_where(error), data, _report(error)))
        elif grown > MEMORY_PER_INPUT:
            self._add(Finding("memory", data, "the process grew by %d MB" % (grown >> 20)))
        if self._lines is None:
            return False
        self.summary.lines = len(self._lines)
        return len(self._lines) > before

    def _call(self, data: bytes) -> Optional[BaseException]:
        signal.setitimer(signal.ITIMER_PROF, SECONDS_UNTIL_KILLED)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_PER_INPUT)
        if self._lines is not None:
            sys.settrace(self._trace)
        try:
            self._target.run(data)
        except BaseException as error:  # a panic of the Rust libraries is no Exception either
            if isinstance(error, KeyboardInterrupt):
                raise
            return error
        finally:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        return None

    def _add(self, finding: Finding) -> None:
        known = self.summary.findings.get(finding.where)
        if known is None or len(finding.data) < len(known.data):
            self.summary.findings[finding.where] = finding

    def _trace(self, frame: FrameType, event: str, _: Any) -> Optional[Callable]:
        return self._line if _is_ours(frame.f_code.co_filename) else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Callable:
        if event == "line":
            assert self._lines is not None
            self._lines.add((frame.f_code, frame.f_lineno))
        return self._line


def corpus_of(name: str) -> List[bytes]:
    """The stored inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*")) if path.is_file()]


def limit_memory() -> None:
    """Have what needs far too much memory fail, rather than the machine."""
    if not os.path.exists("/proc/self/statm"):
        return
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def name_of(finding: Finding) -> str:
    """Of a file that has the input."""
    words = "".join(one if one.isalnum() else "-" for one in finding.where)
    return "%s-%s" % (words[:60], hashlib.sha256(finding.data).hexdigest()[:8])


def _is_ours(name: str) -> bool:
    """Whether a file is of the packages that are tested, in an editable install, too."""
    return "bert_serving" in name or name.startswith(ROOTS)


def _give_up(*_: Any) -> None:
    raise _TooSlow("more than %g s of the processor" % SECONDS_PER_INPUT)


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _where(error: BaseException) -> str:
    """The kind of error, and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if _is_ours(one.filename)]
    place = ours[-1] if ours else frames[-1]
    return "%s in %s %s" % (type(error).__name__, Path(place.filename).stem, place.name)


def _report(error: BaseException) -> str:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-8))
    return text if len(text) < 4000 else text[:2000] + "\n...\n" + text[-2000:]
