from __future__ import annotations

from typing import Any, Iterator, List

import pytest
import zmq
from zmq.utils import garbage

from bert_serving.client import multipart
from bert_serving.client.multipart import KEPT_BYTES

LARGE = bytes(range(256)) * (KEPT_BYTES // 256 + 1)


class Pair:
    """Two ends of a connection inside of this process, where what was sent has come."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self.one, self.other = (self._context.socket(zmq.PAIR) for _ in range(2))
        self.one.bind("inproc://pair")
        self.other.connect("inproc://pair")

    def close(self) -> None:
        for socket in (self.one, self.other):
            socket.close(linger=0)
        self._context.term()
        garbage.gc.stop()  # pyzmq's thread that gives back what was lent


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def read(frames: List[zmq.Frame]) -> List[bytes]:
    return [bytes(frame) for frame in multipart.contents(frames)]


MESSAGES: List[List[Any]] = [
    [b"one"],
    [b"", b"a", b""],
    [b"head", memoryview(LARGE), LARGE, b"tail"],
]


@pytest.mark.parametrize("message", MESSAGES, ids=["one", "empty frames", "large frames"])
@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("lend", [True, False])
def test_it_is_the_same_on_the_wire_as_pyzmq_s(
    pair: Pair, message: List[Any], block: bool, lend: bool
) -> None:
    expected = [bytes(frame) for frame in message]
    multipart.send(pair.one, message, block, lend)
    assert pair.other.recv_multipart() == expected
    pair.one.send_multipart(message)
    assert read(multipart.receive(pair.other)) == expected


def test_all_that_came_is_read_message_by_message(pair: Pair) -> None:
    for message in MESSAGES:
        multipart.send(pair.one, message)
    read_messages = [read(frames) for frames in multipart.received(pair.other)]
    assert read_messages == [[bytes(frame) for frame in message] for message in MESSAGES]
    with pytest.raises(zmq.Again):
        multipart.receive(pair.other)


def test_what_comes_while_messages_are_read_is_read_too(pair: Pair) -> None:
    multipart.send(pair.one, [b"0"])
    seen = []
    for (frame,) in multipart.received(pair.other):
        seen.append(int(frame.bytes))
        if seen[-1] < 3:
            multipart.send(pair.one, [b"%d" % (seen[-1] + 1)])
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("lend", [True, False])
def test_large_frames_are_copied_unless_they_are_lent(pair: Pair, lend: bool) -> None:
    message = bytearray(LARGE)
    multipart.send(pair.one, [message], lend=lend)
    message[0] = 7  # which nobody should do to what is lent
    (content,) = multipart.contents(multipart.receive(pair.other))
    assert isinstance(content, memoryview), "what came is not copied"
    assert content[0] == (7 if lend else LARGE[0])


def test_a_sender_that_may_not_block_says_that_it_would() -> None:
    context = zmq.Context()
    try:
        with context.socket(zmq.PUSH) as lonely, pytest.raises(zmq.Again):
            multipart.send(lonely, [b"a", b"b"], block=False)
    finally:
        context.term()
