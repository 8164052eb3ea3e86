"""A closed loop over HTTP, for servers that speak the embeddings API of OpenAI."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any, List, Optional, Sequence

from bert_serving.benchmarks.clients import ClosedLoad, Timing
from bert_serving.benchmarks.closed import ClosedResult, sum_up
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.workloads import Batch

__all__ = ["embed", "http_closed_loop"]

JSON = {"Content-Type": "application/json"}


def http_closed_loop(
    port: int,
    model: str,
    batches: Sequence[Sequence[Batch]],
    load: ClosedLoad,
    path: str = "/embeddings",
) -> ClosedResult:
    """As :func:`closed_loop`, on a server of this machine; each client keeps a connection.

    ``path`` is where it serves the API; this project's server does at /v1/embeddings.

    Raises BenchmarkError if the warm-up fails.
    """
    timings: List[List[Timing]] = [[] for _ in batches]
    failures: List[BaseException] = []
    warm = threading.Barrier(len(batches))

    def client(mine: Sequence[Batch], results: List[Timing]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=load.timeout)
        try:
            for number in range(load.warm_up):
                embed(connection, model, mine[number % len(mine)].texts, path)
            warm.wait(load.timeout)
            for number in range(load.warm_up, load.repeats):
                results.append(_time_one(connection, model, mine[number % len(mine)], path))
        except (OSError, http.client.HTTPException, BenchmarkError) as error:
            failures.append(error)
            warm.abort()
        except threading.BrokenBarrierError:
            pass  # the client that broke it has told why
        finally:
            connection.close()

    threads = [
        threading.Thread(target=client, args=(mine, results))
        for mine, results in zip(batches, timings)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or not all(timings):
        reason = failures[0] if failures else "no client began within %g s" % load.timeout
        raise BenchmarkError("the clients' warm-up over HTTP failed: %s" % reason)
    return sum_up(load, timings)


def embed(
    connection: http.client.HTTPConnection, model: str, texts: Sequence[str], path: str
) -> List[Any]:
    """The vectors of ``texts``, as lists. Raises BenchmarkError, OSError or HTTPException."""
    body = json.dumps({"model": model, "input": list(texts)})
    connection.request("POST", path, body, JSON)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise BenchmarkError("HTTP status %d: %r" % (response.status, content[:200]))
    vectors = [one["embedding"] for one in json.loads(content)["data"]]
    if len(vectors) != len(texts):
        raise BenchmarkError("%d vectors came for %d texts" % (len(vectors), len(texts)))
    return vectors


def _time_one(
    connection: http.client.HTTPConnection, model: str, batch: Batch, path: str
) -> Timing:
    error: Optional[str] = None
    began = time.monotonic()
    try:
        embed(connection, model, batch.texts, path)
    except (OSError, http.client.HTTPException, BenchmarkError) as failure:
        error = type(failure).__name__
        connection.close()  # the next request opens another
    return Timing(began, time.monotonic(), error, len(batch.texts), batch.tokens)
