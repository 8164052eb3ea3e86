"""HTTPS, and API keys as OpenAI's package sends them."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path
from typing import Any, Iterator, Tuple

import httpx
import pytest
from support import PATIENCE, http_flags, run_start, running

KEY = "sk-0123456789abcdefghij"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[str, ssl.SSLContext]]:
    """The address of a server, and what a client needs to trust it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert]
        + ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    os.chmod(key, 0o600)
    keys = folder / "api-keys"
    keys.write_text("# one a line\n%s\n" % KEY)
    keys.chmod(0o600)
    flags = ["-engine", "echo", *http_flags(), "-http_tls_cert", cert, "-http_tls_key", key]
    with running(*flags, "-http_api_key_file", str(keys)) as server:
        assert server.spec.http is not None
        trust = ssl.create_default_context(cafile=cert)
        yield "https://127.0.0.1:%d" % server.spec.http.port, trust


def test_https_with_a_key(secured: Tuple[str, ssl.SSLContext]) -> None:
    url, trust = secured
    with httpx.Client(verify=trust, trust_env=False, timeout=PATIENCE) as http:
        body = {"id": 1, "texts": ["hello"]}
        assert http.post(url + "/encode", json=body).status_code == 401
        assert http.get(url + "/readyz").status_code == 200
        http.headers["Authorization"] = "Bearer " + KEY
        assert len(http.post(url + "/encode", json=body).json()["result"][0]) == 768


def test_a_stranger_s_certificate_is_noticed(secured: Tuple[str, ssl.SSLContext]) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(secured[0] + "/healthz", trust_env=False, timeout=PATIENCE)


def test_plain_http_is_not_served(secured: Tuple[str, ssl.SSLContext]) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(
            secured[0].replace("https", "http") + "/healthz", trust_env=False, timeout=PATIENCE
        )


def test_openai_s_package(secured: Tuple[str, ssl.SSLContext]) -> None:
    openai: Any = pytest.importorskip("openai")
    url, trust = secured
    with httpx.Client(verify=trust, trust_env=False, timeout=PATIENCE) as http:
        client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, http_client=http)
        answer = client.embeddings.create(model="default", input=["hello"])
        assert len(answer.data[0].embedding) == 768
        stranger = openai.OpenAI(
            base_url=url + "/v1", api_key="sk-another", http_client=http, max_retries=0
        )
        with pytest.raises(openai.AuthenticationError, match="wants an API key"):
            stranger.embeddings.create(model="default", input=["hello"])


def test_files_that_are_none(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for flags, message in (
        (("-http_api_key_file", absent), "can't read -http_api_key_file"),
        (("-http_tls_cert", absent), "belong together"),
        (("-http_tls_cert", absent, "-http_tls_key", absent), "can't read -http_tls_cert"),
    ):
        failed = run_start("-engine", "echo", *http_flags(), *flags)
        assert failed.returncode == 2
        assert "error: " in failed.stderr
        assert message in failed.stderr
