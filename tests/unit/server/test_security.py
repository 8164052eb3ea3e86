from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import http_flags
from unit.server.support import echo_spec

from bert_serving.client.curve import public_key_of
from bert_serving.server import security
from bert_serving.server.arguments import get_args_parser, get_shutdown_parser
from bert_serving.server.errors import StartupError
from bert_serving.server.keygen import make_client_keys, make_server_keys
from bert_serving.server.security import exposure_remarks, http_security, plan_security
from bert_serving.server.spec import SecuritySpec, ServiceSpec

SECRET = "0123456789abcdef-token"


def parse(*flags: str) -> Any:
    return get_args_parser().parse_args(list(flags))


def certificate(folder: Path, *more: str) -> "tuple[str, str]":
    """A self-signed one for localhost, and its key."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert]
        + ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + (list(more) or ["-nodes"]),
        check=True,
        capture_output=True,
    )
    os.chmod(key, 0o600)
    return cert, key


def test_nothing_is_asked_for() -> None:
    assert plan_security(parse()) == SecuritySpec(256_000_000, None, None)
    assert plan_security(parse("-max_message_mb", "3")).max_message == 3_000_000


def test_curve(tmp_path: Path) -> None:
    folder = str(tmp_path)
    _, public = make_server_keys(folder)
    curve = plan_security(parse("-curve", folder)).curve
    assert curve is not None
    assert curve.public == public_key_of(public)
    assert curve.clients == os.path.join(folder, "clients")
    again = plan_security(parse("-curve", folder)).curve
    assert again is not None
    assert again.own_public != curve.own_public


def test_folders_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path)
    with pytest.raises(StartupError, match=r"can't read the server's keys .*server.key_secret"):
        plan_security(parse("-curve", folder))
    (tmp_path / "server.key_secret").write_text("nothing")
    with pytest.raises(StartupError, match="no pair of keys; bert-serving-keygen makes one"):
        plan_security(parse("-curve", folder))
    (tmp_path / "server.key_secret").write_text('secret-key = "short"')
    with pytest.raises(StartupError, match="must have 40 characters of Z85"):
        plan_security(parse("-curve", folder))
    (tmp_path / "server.key_secret").unlink()
    make_server_keys(folder)
    (tmp_path / "clients").rmdir()
    with pytest.raises(StartupError, match=r"no folder .*clients, so no client could connect"):
        plan_security(parse("-curve", folder))
    monkeypatch.setattr("bert_serving.client.curve.zmq.has", lambda name: False)
    with pytest.raises(StartupError, match="need a ZeroMQ with CURVE"):
        plan_security(parse("-curve", folder))


def test_what_is_told_of_it(tmp_path: Path) -> None:
    """SHOW_CONFIG has neither secrets nor where they lie; workers get none."""
    folder = tmp_path / "where-secrets-lie"
    make_server_keys(str(folder))
    make_client_keys(str(folder), "me")
    token = folder / "token"
    token.write_text(SECRET)
    spec = echo_spec("-curve", str(folder), "-admin_token_file", str(token))
    assert spec.config["curve"] is True
    assert spec.config["max_message_mb"] == 256
    assert "where-secrets-lie" not in json.dumps(spec.config)
    assert SECRET not in json.dumps(spec.config)
    curve = spec.security.curve
    assert curve is not None
    assert ServiceSpec.from_json(spec.to_json()) == spec
    for secret in (SECRET, curve.secret, curve.own_secret):
        assert secret not in repr(spec)
        # As it stands in JSON.
        assert json.dumps(secret) in spec.for_role("sink").to_json()
        assert json.dumps(secret) not in spec.for_role("worker").to_json()


def test_api_keys_stay_with_those_who_need_them(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(SECRET)
    spec = echo_spec(*http_flags(), "-http_api_key_file", str(tmp_path / "keys"))
    assert spec.http is not None
    assert spec.http.api_keys == (SECRET,)
    assert ServiceSpec.from_json(spec.to_json()) == spec
    assert SECRET not in repr(spec)
    assert SECRET not in spec.for_role("worker").to_json()
    assert spec.for_role("worker").http == replace(spec.http, api_keys=())


def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    found = http_security(parse("-http_tls_cert", cert, "-http_tls_key", key))
    assert found == {"api_keys": (), "tls_cert": cert, "tls_key": key}
    for flags in (["-http_tls_cert", cert], ["-http_tls_key", key]):
        with pytest.raises(StartupError, match="belong together"):
            http_security(parse(*flags))
    with pytest.raises(StartupError, match="are no certificate and its private key"):
        http_security(parse("-http_tls_cert", key, "-http_tls_key", cert))
    with pytest.raises(StartupError, match="can't read -http_tls_key"):
        http_security(parse("-http_tls_cert", cert, "-http_tls_key", str(tmp_path / "absent")))


def test_a_key_with_a_password_asks_for_none(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "-passout", "pass:secret")
    with pytest.raises(StartupError, match="without a password"):
        http_security(parse("-http_tls_cert", cert, "-http_tls_key", key))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), ()),
        (("-host", "localhost"), ()),
        (("-host", "::1", "-http_port", "8125"), ()),
        (("-host", "0.0.0.0"), ("-curve",)),
        (("-host", "10.0.0.5", "-http_port", "8125"), ("-curve", "-http_api_key_file")),
        (("-host", "0.0.0.0", "-curve", "d", "-http_port", "1"), ("-http_api_key_file",)),
        (("-host", "0.0.0.0", "-curve", "d", "-http_port", "1", "-http_api_key_file", "f"), ()),
    ],
)
def test_an_open_service_is_told(flags: Any, told: Any) -> None:
    remarks = exposure_remarks(parse(*flags))
    assert [name for remark in remarks for name in told if name + " isn't" in remark] == list(told)
    assert len(remarks) == len(told)


def test_flags_of_terminate() -> None:
    args = get_shutdown_parser().parse_args(["-port", "5555", "-keys", "me.key_secret"])
    assert (args.keys, args.server_key, args.admin_token_file) == ("me.key_secret", None, None)


def test_the_flags_that_are_not_told_exist() -> None:
    assert security.SERVER_SECRET == "server.key_secret"
    from bert_serving.server.security_flags import UNTOLD_FLAGS

    assert set(vars(parse())) >= UNTOLD_FLAGS
