"""What the log has of texts and identities: nothing, unless -verbose asks for it."""

from __future__ import annotations

import json

import pytest
from support import RawClient, client_of, running

#: What stands in texts, in payloads that can't be read, in headers, and in identities.
TEXT, UNREADABLE, HEADER, IDENTITY = "Waldeinsamkeit", "Fernweh", "Weltschmerz", "Kummerspeck"


def say_everything(*flags: str) -> None:
    with running("-engine", "echo", *flags) as server:
        identity = IDENTITY.encode("ascii")
        with client_of(server, identity=IDENTITY) as client:
            client.encode([TEXT, TEXT + " ||| " + TEXT])
            client.encode([[TEXT, "##" + TEXT]], is_tokenized=True)
            client.encode([TEXT], show_tokens=True)
        good = json.dumps([TEXT]).encode("ascii")
        unreadable = UNREADABLE.encode("ascii")
        header = json.dumps({"timeout": HEADER, HEADER: 1}).encode("ascii")
        wrong = json.dumps({"pooling_strategy": HEADER}).encode("ascii")
        # Another one, since a reply can still be on its way to a connection that was just closed.
        identity += b"-2"
        with RawClient(server, identity) as raw:
            for number, rest in enumerate(
                (
                    (unreadable, b"1", b"1"),
                    (b'["%s"' % unreadable, b"2", b"1"),
                    (b'{"a": "%s"}' % unreadable, b"3", b"1"),
                    (b'[5, "%s"]' % unreadable, b"4", b"2"),
                    (good, b"5", unreadable),
                    (good, b"6", b"1", header),
                    (good, b"7", b"1", wrong),
                    (good, b"8", b"1", unreadable),
                ),
                1,
            ):
                raw.send(identity, *rest)
                _, info, _, answered = raw.receive()
                assert int(answered) == number
                assert "error" in json.loads(info)
            raw.send(unreadable)
            raw.send(identity, good, unreadable, b"1")
            raw.send(identity, good, b"9", b"1")
            assert raw.receive()[-1] == b"9"


def test_without_verbose_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    say_everything()
    log = capfd.readouterr().err
    assert "refused a request from 127.0.0.1 that can't be read" in log
    for secret in (TEXT, UNREADABLE, HEADER, IDENTITY):
        assert secret.lower() not in log.lower()


def test_with_verbose_what_was_refused_and_who_asked(capfd: pytest.CaptureFixture[str]) -> None:
    say_everything("-verbose")
    log = capfd.readouterr().err
    for shown in (UNREADABLE, HEADER, IDENTITY):
        assert shown in log
    assert TEXT.lower() not in log.lower()
