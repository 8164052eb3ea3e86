"""Fixtures for all tests."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
from pathlib import Path
from typing import Any, Generator, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, settings

from bert_serving.server import engines
from bert_serving.server.errors import StartupError

# No test asserts a time, hypothesis' own neither: machines are shared and slow at times. CI runs
# the same examples each time; elsewhere new ones are looked for.
settings.register_profile(
    "project",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("project")

#: Has fesetenv(); its argument for the state that a program starts with is a pointer of -1.
MATHEMATICS = ctypes.CDLL(ctypes.util.find_library("m"))
DEFAULT_STATE = ctypes.c_void_p(-1)

GOLDEN = Path(__file__).parent / "golden"

#: Names the engines, separated by spaces, that must be there: their tests may not skip themselves.
REQUIRED = "BERT_SERVING_TEST_ENGINES"


@pytest.fixture(autouse=True)
def _default_arithmetic() -> Iterator[None]:
    """ONNX Runtime has the thread that loads a graph take denormals for 0: in a worker that is the
    worker's own, but here it is that of all tests.
    """
    yield
    MATHEMATICS.fesetenv(DEFAULT_STATE)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Results of the reference systems, and the small models that gave them."""
    return GOLDEN


@pytest.fixture
def own_environment() -> Iterator[None]:
    """Undo what an engine that is loaded in this process sets in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def _heed_interrupts() -> None:
    """Let SIGINT end the processes that tests start, also where a shell that started this one in
    the background has it ignored: they inherit that, but not what handles a signal.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    _heed_interrupts()
    for name in _required():
        try:
            engines.choose(name)
        except StartupError as error:
            raise pytest.UsageError("%s demands it: %s" % (REQUIRED, error)) from error


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[-1])
        for package in _packages():
            # As importorskip says it; an engine may be found and still not be importable.
            if "could not import '%s" % package in reason:
                report.outcome = "failed"
                report.longrepr = "%s forbids to skip this: %s" % (REQUIRED, reason)


def _required() -> List[str]:
    return os.environ.get(REQUIRED, "").split()


def _packages() -> Tuple[str, ...]:
    return tuple(package for name in _required() for package in engines.ENGINES[name].packages)
