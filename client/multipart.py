"""Messages of several frames, through pyzmq's calls for single ones.

pyzmq's ``send_multipart`` and ``recv_multipart`` do the same, but look at every frame first, or ask
the socket after each one whether more follow. They take three times as long: more than all else
that happens to a small message.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence

import zmq

from bert_serving.client.frames import Frame

__all__ = ["contents", "is_readable", "receive", "received", "send"]

#: Received frames up to this many bytes are copied: that takes less time than to keep track of
#: their owner.
COPIED_BYTES = 64 * 1024
#: Up to so many, frames are copied though they may be lent: a thread keeps track of those.
KEPT_BYTES = 256 * 1024
# As plain numbers: those of pyzmq are members of enumerations, which are slow to combine.
_MORE, _NOBLOCK, _EVENTS, _IN = int(zmq.SNDMORE), int(zmq.NOBLOCK), zmq.EVENTS, int(zmq.POLLIN)


def send(socket: Any, frames: Sequence[Frame], block: bool = True, lend: bool = False) -> None:
    """Send a message.

    ``lend``: ZeroMQ reads large frames later, where they are, instead of copying them; for that
    pyzmq starts a thread, the first time. Raises zmq.ZMQError; zmq.Again if it would have to wait
    and may not ``block``.
    """
    flags = 0 if block else _NOBLOCK
    last = len(frames) - 1
    for number, frame in enumerate(frames):
        copy = not lend or len(frame) <= KEPT_BYTES
        socket.send(frame, flags if number == last else flags | _MORE, copy)


def receive(socket: Any) -> List[zmq.Frame]:
    """The frames of the next message, which must be there. Raises zmq.ZMQError."""
    frame = socket.recv(_NOBLOCK, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_NOBLOCK, False)
        frames.append(frame)
    return frames


def is_readable(socket: Any) -> bool:
    """Whether a message is there."""
    return bool(socket.get(_EVENTS) & _IN)


def received(socket: Any) -> Iterator[List[zmq.Frame]]:
    """The messages that are there, at least one; doesn't wait for more. Raises zmq.ZMQError."""
    yield receive(socket)
    while is_readable(socket):
        yield receive(socket)


def contents(frames: Sequence[zmq.Frame]) -> List[Frame]:
    """What is in ``frames``; large ones are ZeroMQ's memory, which isn't copied."""
    return [frame.bytes if len(frame) <= COPIED_BYTES else frame.buffer for frame in frames]
