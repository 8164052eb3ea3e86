from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bert_serving.server.errors import StartupError
from bert_serving.server.secret_files import ADMIN_TOKEN_VARIABLE, admin_token, api_keys

SECRET = "0123456789abcdef-token"


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_token_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADMIN_TOKEN_VARIABLE, "another-of-16-characters")
    assert admin_token(written(tmp_path / "t", "# mine\n%s\n" % SECRET)) == SECRET


def test_a_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADMIN_TOKEN_VARIABLE, raising=False)
    assert admin_token(None) is None
    monkeypatch.setenv(ADMIN_TOKEN_VARIABLE, "")
    assert admin_token(None) is None
    monkeypatch.setenv(ADMIN_TOKEN_VARIABLE, SECRET + "\n")
    assert admin_token(None) == SECRET
    monkeypatch.setenv(ADMIN_TOKEN_VARIABLE, "short-secret")
    with pytest.raises(StartupError, match="at least 16 characters") as raised:
        admin_token(None)
    assert "short-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have one line, but has 0"),
        (SECRET + "\n" + SECRET, "must have one line, but has 2"),
        ("short", "at least 16 characters"),
        ("with spaces in it it is long", "none a space"),
        ("ümläute-are-not-for-headers", "all of them ASCII"),
    ],
)
def test_tokens_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StartupError, match=message) as raised:
        admin_token(str(path))
    assert str(path) in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"can't read -admin_token_file .*No such file"):
        admin_token(str(tmp_path / "absent"))
    (tmp_path / "bytes").write_bytes(b"\xff" * 20)
    with pytest.raises(StartupError, match="is no text"):
        api_keys(str(tmp_path / "bytes"))


def test_api_keys(tmp_path: Path) -> None:
    path = written(tmp_path / "k", "# of alice\n%s\n\n%s2\n" % (SECRET, SECRET))
    assert api_keys(path) == (SECRET, SECRET + "2")
    with pytest.raises(StartupError, match="has no key"):
        api_keys(written(tmp_path / "k", "# none\n"))


def test_a_warning_of_what_everybody_may_read(tmp_path: Path, log: Any) -> None:
    api_keys(written(tmp_path / "k", SECRET))
    assert log.text == ""
    api_keys(written(tmp_path / "k", SECRET, 0o644))
    assert "can be read by every user of this machine: chmod 600 it" in log.text
    assert SECRET not in log.text
