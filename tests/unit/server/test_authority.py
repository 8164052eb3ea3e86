from __future__ import annotations

from typing import Any, Dict, Optional

import pytest
import zmq

from bert_serving.client.protocol import TERMINATION, Request
from bert_serving.server.authority import Authority
from bert_serving.server.spec import CurveSpec, SecuritySpec

TOKEN = "a-token-of-some-length"
KEY, OTHER = "m" * 40, "o" * 40
CURVE = SecuritySpec(curve=CurveSpec("/clients", "p", "s", "p", "s"))


class Frame:
    """What ZeroMQ says of a connection."""

    def __init__(self, peer: str = "127.0.0.1", key: Optional[str] = None) -> None:
        self._said: Dict[str, str] = {"Peer-Address": peer}
        if key is not None:
            self._said["User-Id"] = key

    def get(self, name: str) -> str:
        if name not in self._said:
            raise zmq.ZMQError(zmq.EINVAL)
        return self._said[name]


def may_stop(spec: SecuritySpec, peer: str, token: Optional[str] = None) -> bool:
    frame: Any = Frame(peer)
    return Authority(spec).may_administer(
        "stop", Request(b"me", TERMINATION, 0, admin_token=token), frame
    )


@pytest.mark.parametrize(
    ("own", "peer", "shown", "may"),
    [
        (None, "127.0.0.1", None, True),
        (None, "::1", None, True),
        (TOKEN, "127.0.0.1", None, True),
        (None, "10.0.0.5", None, False),
        (None, "10.0.0.5", TOKEN, False),
        (TOKEN, "10.0.0.5", None, False),
        (TOKEN, "10.0.0.5", TOKEN, True),
        (TOKEN, "10.0.0.5", TOKEN[:-1], False),
        (TOKEN, "10.0.0.5", "", False),
        (TOKEN, "10.0.0.5", "ü\udc80", False),
    ],
)
def test_who_may_stop_the_server(
    own: Optional[str], peer: str, shown: Optional[str], may: bool, log: Any
) -> None:
    assert may_stop(SecuritySpec(admin_token=own), peer, shown) is may
    text = log.text
    assert ("refused to stop for %s" % peer in text) is not may
    assert TOKEN[:-1] not in text


def test_identities_belong_to_keys_with_curve(log: Any) -> None:
    authority = Authority(CURVE)
    own: Any = Frame(key=KEY)
    nobody: Any = Frame()
    assert authority.may_use(KEY.encode() + b":1", own)
    assert not authority.may_use(OTHER.encode() + b":1", own)
    assert not authority.may_use(b"me", own)
    assert not authority.may_use(KEY.encode() + b":1", nobody)
    text = log.text
    assert "warning: refused a request from 127.0.0.1 in another's name" in text
    assert "debug: it was in the name of b'%s:1'" % OTHER in text


def test_who_is_refused_does_not_fill_the_log_or_tell_it_an_identity(log: Any) -> None:
    """Whoever knows an identity can listen to its replies."""
    authority = Authority(CURVE)
    stranger: Any = Frame(peer="10.0.0.5", key=KEY)
    for _ in range(100):
        assert not authority.may_use(OTHER.encode() + b":1", stranger)
        asked = Request(OTHER.encode() + b":1", TERMINATION, 0)
        assert not authority.may_administer("stop", asked, stranger)
    assert [line for line in log.text.splitlines() if not line.startswith("debug: ")] == [
        "warning: refused a request from 10.0.0.5 in another's name",
        "warning: refused to stop for 10.0.0.5: only this machine may ask for it, or who has the "
        "admin token",
    ]


def test_and_to_nobody_without() -> None:
    nobody: Any = Frame()
    assert Authority(SecuritySpec()).may_use(b"me", nobody)


def test_secrets_are_in_no_text_of_the_objects() -> None:
    assert TOKEN not in repr(SecuritySpec(admin_token=TOKEN))
    assert TOKEN not in repr(Request(b"me", TERMINATION, 0, admin_token=TOKEN))
