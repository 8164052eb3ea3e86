"""A cache directory of the test run's own, so that what is tested is built by this code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from bert_serving.graph_opt.cache import user_cache_dir


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
