"""From the frames that a client receives to the inbox that they belong to. Pure."""

from __future__ import annotations

from typing import List

from bert_serving.client.errors import ProtocolError
from bert_serving.client.frames import Frame
from bert_serving.client.protocol import MalformedMessage, identity_of
from bert_serving.client.reply_frames import decode_reply
from bert_serving.client.requests import RequestLedger

__all__ = ["deliver_frames"]


def deliver_frames(ledger: RequestLedger, identity: bytes, frames: List[Frame]) -> None:
    """Deliver the reply in ``frames``; ProtocolError as the reply if it can't be read.

    Raises ProtocolError if it can't even be told whose it is.
    """
    # A bare subscription also matches longer identities, which a 1.10 server sends as well.
    if identity_of(bytes(frames[0])) != identity:
        ledger.dropped += 1
        return
    try:
        reply = decode_reply(frames)
    except MalformedMessage as error:
        unreadable = ProtocolError(str(error))
        unreadable.__cause__ = error
        if error.request_id is None:
            # Whose it is can't be told. Dropped, it would leave its asker waiting for ever.
            raise unreadable from error
        ledger.deliver(error.request_id, unreadable)
    else:
        ledger.deliver(reply.request_id, reply)
