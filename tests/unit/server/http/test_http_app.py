"""What is around the endpoints: limits, probes, documentation, errors of the router."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any, Callable, Dict, List

import pytest
from unit.server.http.conftest import Harness
from unit.server.http.test_http_metrics import samples

from bert_serving.client.errors import RequestTimeout, ShuttingDown


class Asking:
    """One request to an application, without a server between."""

    def __init__(self, app: Any, method: str, path: str, body: bytes = b"") -> None:
        self._sent: "asyncio.Queue[Dict[str, Any]]" = asyncio.Queue()
        self._sent.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.messages: List[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode("ascii"),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        self.task = asyncio.ensure_future(app(scope, self._sent.get, self._note))

    async def _note(self, message: Any) -> None:
        self.messages.append(message)

    def disconnect(self) -> None:
        self._sent.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int:
        await self.task
        status: int = self.messages[0]["status"]
        return status


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("waited in vain")


BODY = json.dumps({"texts": ["hi"], "inputs": "hi"}).encode("ascii")


async def more_than_may_be(served: Harness) -> None:
    served.fake.gate = asyncio.Event()
    first = [Asking(served.app, "POST", "/encode", BODY) for _ in range(2)]
    await until(lambda: len(served.fake.calls) == 2)
    for path, key in (("/encode", "description"), ("/embed", "error")):
        refused = Asking(served.app, "POST", path, BODY)
        assert await refused.status() == 503
        assert (b"retry-after", b"1") in refused.messages[0]["headers"]
        assert "larger -http_max_connect" in json.loads(refused.messages[1]["body"])[key]
    # Who watches the service isn't locked out.
    assert await Asking(served.app, "GET", "/healthz").status() == 200
    assert await Asking(served.app, "GET", "/metrics").status() == 200
    served.fake.gate.set()
    assert [await one.status() for one in first] == [200, 200]
    assert await Asking(served.app, "POST", "/encode", BODY).status() == 200


def test_more_requests_than_may_be(serve: Callable[..., Harness]) -> None:
    asyncio.run(more_than_may_be(serve("-http_max_connect", "2")))


async def go_away(served: Harness) -> None:
    served.fake.gate = asyncio.Event()
    asking = Asking(served.app, "POST", "/encode", BODY)
    await until(lambda: served.fake.calls)
    asking.disconnect()
    assert await asking.status() == 499
    assert served.fake.cancelled == 1
    text = served.http.get("/metrics").content
    labels = ("method", "POST"), ("path", "/encode"), ("status", "499")
    assert samples(text)[("bert_serving_http_requests_total", *labels)] == 1


def test_a_client_that_disconnects_cancels_its_work(served: Harness) -> None:
    asyncio.run(go_away(served))


async def cancel_the_request(served: Harness) -> None:
    served.fake.gate = asyncio.Event()
    asking = Asking(served.app, "POST", "/encode", BODY)
    await until(lambda: served.fake.calls)
    asking.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking.task
    assert served.fake.cancelled == 1


def test_a_server_that_gives_up_cancels_it_too(served: Harness) -> None:
    asyncio.run(cancel_the_request(served))


def test_limits_of_bodies(serve: Callable[..., Harness]) -> None:
    served = serve("-http_max_body", "1")
    big = json.dumps({"texts": ["x" * (1 << 20)]}).encode("ascii")
    assert served.http.post("/encode", content=big).status_code == 413
    encoded = {"Content-Encoding": "gzip"}
    answer = served.http.post("/encode", content=gzip.compress(big), headers=encoded)
    assert answer.status_code == 413
    answer = served.http.post("/encode", content=gzip.compress(BODY), headers=encoded)
    assert answer.status_code == 200
    answer = served.http.post("/encode", content=BODY, headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert served.http.post("/encode", content=iter([big, big])).status_code == 413


def test_nothing_here_and_other_methods(served: Harness) -> None:
    answer = served.http.get("/nothing")
    assert answer.status_code == 404
    assert "nothing is served at /nothing" in answer.json()["description"]
    for path in ("/encode", "/embed", "/v1/embeddings", "/tokenize"):
        answer = served.http.get(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
    assert served.http.post("/info").headers["allow"] == "GET"


def test_cors(serve: Callable[..., Harness]) -> None:
    served = serve("-cors", "https://a.example, https://b.example")
    allowed = {"Origin": "https://b.example"}
    answer = served.post("/encode", {"texts": ["a"]}, headers=allowed)
    assert answer.headers["access-control-allow-origin"] == "https://b.example"
    answer = served.post("/encode", {"texts": ["a"]}, headers={"Origin": "https://c.example"})
    assert "access-control-allow-origin" not in answer.headers
    wanted = {"Access-Control-Request-Method": "POST"}
    wanted.update(allowed, **{"Access-Control-Request-Headers": "content-type"})
    answer = served.http.options("/encode", headers=wanted)
    assert answer.status_code == 200
    assert "POST" in answer.headers["access-control-allow-methods"]
    answer = serve().post("/encode", {"texts": ["a"]}, headers=allowed)
    assert answer.headers["access-control-allow-origin"] == "*"


def test_probes(served: Harness) -> None:
    assert served.http.get("/healthz").json()["status"] == "ok"
    assert served.http.get("/readyz").status_code == 200
    assert served.fake.calls == [{"texts": ["ready"]}]
    served.readiness.stop()
    for path in ("/readyz", "/health"):
        answer = served.http.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"status": "unavailable", "reason": "the service stops"}
    assert served.http.get("/healthz").status_code == 200


def test_a_service_that_does_not_answer(served: Harness) -> None:
    served.fake.error = RequestTimeout("no answer")
    answer = served.http.get("/readyz")
    assert answer.status_code == 503
    assert "no answer" in answer.json()["reason"]
    served.fake.error = ShuttingDown("bye")
    found = samples(served.http.get("/metrics").content)
    assert found[("bert_serving_up",)] == 0


def test_paths_that_are_made_up_are_counted_together(served: Harness) -> None:
    for path in ("/a", "/b", "/v1/models/x"):
        served.http.get(path)
    found = samples(served.http.get("/metrics").content)
    labels = ("method", "GET"), ("path", "other"), ("status", "404")
    assert found[("bert_serving_http_requests_total", *labels)] == 3


def test_the_documentation_is_true_of_this_server(serve: Callable[..., Harness]) -> None:
    served = serve("-http_max_rows", "7")
    schema = served.http.get("/openapi.json").json()
    body = schema["paths"]["/encode"]["post"]["requestBody"]["content"]["application/json"]
    plain, tokenized = body["schema"]["properties"]["texts"]["anyOf"]
    assert (plain["maxItems"], tokenized["maxItems"]) == (7, 7)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert "422" not in operation["responses"], path
            assert operation["summary"], path
            if method == "post":
                assert {"200", "400", "413", "429", "503", "504"} <= set(operation["responses"])


def test_the_documentation_s_page_needs_no_other_server(served: Harness) -> None:
    page = served.http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        (path,) = [part for part in page.text.split('"') if part.endswith(name)]
        assert served.http.get(path).status_code == 200
