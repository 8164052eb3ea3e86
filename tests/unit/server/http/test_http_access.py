from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from bert_serving.server.http.access import user_of

KEY, OTHER = "key-of-alice-0123456789", "key-of-bob-0123456789"

Serve = Callable[..., Any]


@pytest.fixture
def guarded(serve: Serve, tmp_path: Path) -> Any:
    """A server with two keys."""
    (tmp_path / "keys").write_text("%s\n%s\n" % (KEY, OTHER))
    return serve("-http_api_key_file", str(tmp_path / "keys"))


def bearer(key: str) -> Dict[str, str]:
    return {"Authorization": "Bearer " + key}


REQUESTS = {
    "/encode": {"id": 1, "texts": ["hello"]},
    "/v1/embeddings": {"model": "default", "input": "hello"},
    "/embed": {"inputs": "hello"},
}


@pytest.mark.parametrize("path", sorted(REQUESTS))
@pytest.mark.parametrize("key", [KEY, OTHER])
def test_who_shows_a_key_is_served(guarded: Any, path: str, key: str) -> None:
    assert guarded.post(path, REQUESTS[path], headers=bearer(key)).status_code == 200


def test_whoever_has_a_key_is_a_user(guarded: Any) -> None:
    for key in (OTHER, KEY, OTHER):
        guarded.post("/encode", REQUESTS["/encode"], headers=bearer(key))
    assert [call["user"] for call in guarded.fake.calls] == ["key 1", "key 0", "key 1"]


def test_without_keys_a_machine_is_one(serve: Serve) -> None:
    served = serve()
    served.post("/encode", REQUESTS["/encode"])
    assert [call["user"] for call in served.fake.calls] == ["testclient"]
    assert user_of({"client": None}) is None


@pytest.mark.parametrize("path", sorted(REQUESTS))
@pytest.mark.parametrize(
    "shown",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer " + KEY[:-1],
        "Bearer " + KEY + "x",
        "Basic " + KEY,
        KEY,
        "Bearer %s, Bearer %s" % (KEY, OTHER),
    ],
)
def test_nobody_else_is(guarded: Any, path: str, shown: Optional[str]) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    answer = guarded.post(path, REQUESTS[path], headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.fake.calls == []
    assert KEY[:-1] not in answer.text


def test_two_headers_are_none(guarded: Any) -> None:
    headers = [("Authorization", "Bearer " + KEY), ("Authorization", "Bearer x")]
    assert guarded.http.get("/status/server", headers=headers).status_code == 401


def test_the_form_of_each_api(guarded: Any) -> None:
    message = "this server wants an API key: Authorization: Bearer KEY"
    bodies = {path: guarded.post(path, REQUESTS[path]).json() for path in REQUESTS}
    assert bodies["/encode"] == {"description": message, "type": "Unauthorized", "status": 401}
    assert bodies["/v1/embeddings"]["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert bodies["/embed"] == {"error": message, "error_type": "Validation"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/health", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/static-offline-docs/swagger-ui.css", 200),
        ("/metrics", 401),
        ("/status/server", 401),
        ("/status/client", 401),
        ("/info", 401),
        ("/v1/models", 401),
        ("/no/such/page", 401),
        ("/docs/../metrics", 401),
        ("/static-offline-docs/../metrics", 401),
        ("//healthz", 401),
        ("/healthz/", 401),
    ],
)
def test_what_is_open(guarded: Any, path: str, status: int) -> None:
    assert guarded.http.get(path, follow_redirects=False).status_code == status


def test_browsers_may_ask_what_they_may(guarded: Any) -> None:
    """A preflight can't show a key (https://fetch.spec.whatwg.org/#cors-preflight-request)."""
    asked = {
        "Origin": "http://elsewhere",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = guarded.http.options("/encode", headers=asked)
    assert answer.status_code == 200
    refused = guarded.http.post("/encode", json={}, headers={"Origin": "http://elsewhere"})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "*")


def test_a_request_without_a_key_takes_no_place(guarded: Any) -> None:
    metrics = guarded.http.get("/metrics", headers=bearer(KEY)).text
    assert 'status="401"' not in metrics
    guarded.post("/encode", {"texts": ["hello"]})
    metrics = guarded.http.get("/metrics", headers=bearer(KEY)).text
    assert 'status="401"' in metrics


def test_the_description_tells_of_keys(guarded: Any, served: Any) -> None:
    described = guarded.http.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert described["paths"]["/encode"]["post"]["security"] == [{"key": []}]
    assert "401" in described["paths"]["/encode"]["post"]["responses"]
    assert "security" not in described["paths"]["/healthz"]["get"]
    assert "securitySchemes" not in served.http.get("/openapi.json").json().get("components", {})


def test_without_a_file_no_key_is_asked_for(served: Any) -> None:
    assert served.post("/encode", REQUESTS["/encode"]).status_code == 200
    assert served.post("/encode", REQUESTS["/encode"], headers=bearer("any")).status_code == 200
