"""Messages between the server's own processes, and their frames.

Pure. Nothing is ever pickled. The first frame begins with a letter for the kind of message; the
numbers that follow have fixed places in messages that come with every request or batch, and are
JSON in the others. Large arrays are raw bytes in frames of their own. Texts stop at the
ventilator and vectors start at the workers::

    ventilator -> worker   Batch
    worker -> ventilator   Ready
    worker -> sink         Part, Broken
    ventilator -> sink     Announced, Registered, RowLost, RequestFailed, Dropped, Info
    sink -> ventilator     Done, Broken, Gone, Waiting

What became of a batch goes by the sink, so that the ventilator takes nothing for computed that the
sink doesn't have.
"""

from __future__ import annotations

from typing import Any, Sequence, Union

from bert_serving.server.batch_messages import OfBatches, decode_of_batches
from bert_serving.server.request_messages import OfRequests, decode_of_requests

__all__ = ["Message", "decode"]

Message = Union[OfBatches, OfRequests]


def decode(frames: Sequence[Any]) -> Message:
    """The message in ``frames``; its arrays are read-only views of them.

    Raises ValueError: the peers are processes of the same version, so that is a bug.
    """
    head = bytes(frames[0])
    message = decode_of_batches(head, frames) or decode_of_requests(head, frames)
    if message is None:
        raise ValueError("unknown internal message %r" % head)
    return message
