"""A cache directory of the test run's own, so that what is tested is built by this code.

And the originals: bert-as-service 1.10 as the package index has it, in environments of their own.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
import pytest
from e2e.support import TIMEOUT, Reference, Serve
from support import PATIENCE

from bert_serving.benchmarks.rivals.environments import RIVALS, Rival, environment, find_python
from bert_serving.benchmarks.rivals.processes import bert_as_service
from bert_serving.benchmarks.wire import Target
from bert_serving.client import BertClient
from bert_serving.graph_opt.cache import user_cache_dir

#: Set it, and the tests that need Python 3.7 may not skip themselves where there is none.
DEMANDED = "BERT_SERVING_TEST_ORIGINAL"

ORIGINAL_CLIENT = Rival(
    "client-1.10-py%d%d" % sys.version_info[:2],
    ("bert-serving-client==1.10.0",),
    ("bert-serving-client",),
)


@pytest.fixture(scope="session")
def shared_cache() -> Path:
    """The user's own cache: the default model is too large to fetch for every test."""
    return Path(user_cache_dir())


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[None]:
    cache = tmp_path_factory.mktemp("cache")
    (shared_cache / "models").mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(shared_cache / "models", target_is_directory=True)
    before = os.environ.get("BERT_SERVING_CACHE")
    os.environ["BERT_SERVING_CACHE"] = str(cache)
    yield
    if before is None:
        del os.environ["BERT_SERVING_CACHE"]
    else:
        os.environ["BERT_SERVING_CACHE"] = before


@pytest.fixture(scope="session")
def cases(golden: Path) -> List[Dict[str, Any]]:
    """The cases that bert-as-service 1.10 was asked; ``tests/golden/README.md`` describes them."""
    found: List[Dict[str, Any]] = json.loads(
        (golden / "tf1-tiny" / "cases.json").read_text("utf-8")
    )
    return found


@pytest.fixture(scope="session")
def rivals(shared_cache: Path) -> Path:
    """Where the environments are kept: the benchmark's, so that both have the same."""
    return shared_cache / "compare" / "rivals"


@pytest.fixture(scope="session")
def original_client(rivals: Path) -> List[str]:
    """The words that run a Python that has bert-serving-client 1.10.0 instead of this project."""
    # -E: a PYTHONPATH may name this project.
    return [str(environment(ORIGINAL_CLIENT, rivals) / "bin" / "python"), "-E"]


@pytest.fixture(scope="session")
def original_place(rivals: Path) -> Path:
    """An environment that has bert-serving-server 1.10.0 and TensorFlow 1.15."""
    rival = RIVALS["bert-as-service"]
    if find_python(rival.python) is None and not os.environ.get(DEMANDED):
        pytest.skip(
            "no Python %s found, which bert-serving-server 1.10 needs; name one by PYTHON%s"
            % (rival.python, rival.python.replace(".", ""))
        )
    return environment(rival, rivals)


@pytest.fixture(scope="session")
def serve_original(
    original_place: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Serve:
    """Starts an original server; nothing of it is left behind."""
    model = golden / "tf1-tiny" / "model"

    @contextmanager
    def serve(*flags: str) -> Iterator[Target]:
        before = psutil.Process().children(recursive=True)
        with bert_as_service(
            original_place, model, tmp_path_factory.mktemp("original"), flags
        ) as target:
            started = set(psutil.Process().children(recursive=True)) - set(before)
            yield target
        _, alive = psutil.wait_procs(started, PATIENCE)
        assert alive == []

    return serve


@pytest.fixture(scope="module")
def original_server(serve_original: Serve, cases: List[Dict[str, Any]]) -> Iterator[Target]:
    """An original server that sends tokens, for all tests of a module."""
    with serve_original("-show_tokens_to_client", *cases[2]["flags"]) as target:
        yield target


@pytest.fixture
def reference(golden: Path, cases: List[Dict[str, Any]]) -> Reference:
    """What that server must answer."""
    return Reference(golden, cases[2])


@pytest.fixture
def options(original_server: Target) -> Dict[str, Any]:
    """A client's, for that server."""
    ports = {"port": original_server.port, "port_out": original_server.port_out}
    return dict(ports, timeout=TIMEOUT)


@pytest.fixture
def client(options: Dict[str, Any]) -> Iterator[BertClient]:
    """A client of that server."""
    # Some of the texts are longer than the server's 25 tokens.
    with BertClient(check_length=False, **options) as client:
        yield client
