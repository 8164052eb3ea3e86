"""Whether a client can still be used, where it is used."""

from __future__ import annotations

import os

from bert_serving.client.errors import ClientClosed, ClientForked

__all__ = ["check_process", "closed"]


def check_process(made_in: int) -> None:
    """Raise ClientForked unless this is the process that a client was made in."""
    if os.getpid() != made_in:
        raise ClientForked(
            "this client was made in process %d and can't be used in process %d: make a new one "
            "after the fork" % (made_in, os.getpid())
        )


def closed() -> ClientClosed:
    """What is raised after close()."""
    return ClientClosed("this client is closed: make a new one")
