"""Noticing that the other end of a connection is gone though it never said so: a machine that lost
its power, a network that was cut.

By TCP itself, and not by ZeroMQ's heartbeats: those are answered between messages only, so that a
large message on a slow line, or a reader that has stopped for a while, counts as a dead peer, and
the message is lost. The kernel answers in any case.
"""

from __future__ import annotations

from typing import Any

import zmq

__all__ = ["NOTICED_AFTER", "watch_peer"]

#: Seconds of silence before the other end is asked, between questions, and how many of those may
#: stay without an answer.
IDLE, INTERVAL, QUESTIONS = 5, 2, 3
#: Seconds after which a peer that has vanished is noticed.
NOTICED_AFTER = IDLE + INTERVAL * QUESTIONS


def watch_peer(socket: Any, gives_up: bool = False) -> None:
    """Notice a lost peer while nothing is under way to it; call this before bind or connect.

    ``gives_up``: also while something is, and when the peer's machine takes nothing for that
    long. Not for a socket that sends to readers who may pause.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, IDLE)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, INTERVAL)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, QUESTIONS)
    if gives_up:
        socket.setsockopt(zmq.TCP_MAXRT, NOTICED_AFTER * 1000)
