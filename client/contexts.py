"""ZeroMQ's context, one for all clients of a process.

A context has threads of its own, and a message wakes them up more often than it costs to carry it:
where many clients of a process have one each, a third of what a small request takes goes there.
"""

from __future__ import annotations

import os
import threading
from typing import List, Optional

import zmq

__all__ = ["acquire", "release"]


class _Shared:
    """The context, while somebody uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.context: "Optional[zmq.Context[zmq.Socket[bytes]]]" = None
        self.users = 0


_shared = _Shared()
#: A forked child must neither use its parent's context nor end it.
_parents: List[_Shared] = []


def acquire() -> "zmq.Context[zmq.Socket[bytes]]":
    """The context of this process; to be released."""
    with _shared.lock:
        if _shared.context is None:
            _shared.context = zmq.Context()
        _shared.users += 1
        return _shared.context


def release() -> None:
    """The caller's sockets are closed. The last one who releases the context ends it."""
    with _shared.lock:
        _shared.users -= 1
        if _shared.users == 0 and _shared.context is not None:
            _shared.context.term()
            _shared.context = None


def _begin_anew() -> None:
    global _shared
    _parents.append(_shared)
    _shared = _Shared()


os.register_at_fork(after_in_child=_begin_anew)
