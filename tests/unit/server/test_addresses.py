from __future__ import annotations

import pytest

from bert_serving.server.addresses import is_loopback


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_this_machine(peer: str) -> None:
    assert is_loopback(peer)


@pytest.mark.parametrize(
    "peer",
    ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "", "None", "localhost"],
)
def test_others(peer: str) -> None:
    """A name is none either: what ZeroMQ tells is a number."""
    assert not is_loopback(peer)
