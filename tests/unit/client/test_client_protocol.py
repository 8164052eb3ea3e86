from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client import protocol
from bert_serving.client.protocol import Request, check_identity, identity_of, shorten, topic_of

identities = st.binary(min_size=1, max_size=254).filter(lambda identity: b"\0" not in identity)


def test_all() -> None:
    assert protocol.__all__ == [
        "PROTOCOL",
        "SHOW_CONFIG",
        "SHOW_STATUS",
        "TERMINATION",
        "RELOAD",
        "CANCEL",
        "COMMANDS",
        "ErrorKind",
        "MalformedMessage",
        "Request",
        "Timings",
        "Details",
        "Part",
        "VectorsReply",
        "InfoReply",
        "ErrorReply",
        "Reply",
        "Texts",
        "check_identity",
        "topic_of",
        "identity_of",
        "shorten",
    ]


@given(identities, identities)
def test_a_topic_is_one_identity_s(one: bytes, other: bytes) -> None:
    assert identity_of(topic_of(one)) == one
    assert topic_of(one).startswith(one)  # or a 1.10 client's own filter would drop it
    assert topic_of(one).startswith(topic_of(other)) == (one == other)


@given(identities)
def test_a_bare_topic_of_a_1_10_server(identity: bytes) -> None:
    assert identity_of(identity) == identity


@pytest.mark.parametrize("identity", [b"", b"a\0b", b"x" * 255, "text", None])
def test_what_can_be_no_identity(identity: object) -> None:
    with pytest.raises(ValueError, match="identity must"):
        check_identity(identity)  # type: ignore[arg-type]


def test_only_the_exact_name_is_a_command() -> None:
    assert Request(b"me", b"SHOW_CONFIG", 1).is_command
    for payload in (b"show_config", b"SHOW_CONFIG ", b'"SHOW_CONFIG"', b""):
        assert not Request(b"me", payload, 1).is_command


def test_long_bytes_are_cut() -> None:
    assert shorten(b"short") == "b'short'"
    assert shorten(b"x" * 1000) == "b'%s'... (1000 bytes)" % ("x" * 60)
