"""What the sink is told of a protocol 2 request beside its rows. Pure values."""

from __future__ import annotations

import struct
from typing import Mapping, NamedTuple, Tuple

import numpy as np

from bert_serving.client.protocol import Details, Timings

__all__ = ["MODEL_BYTES", "ReplyPlan"]

#: Of a model's fingerprint: as many as it has digits.
MODEL_BYTES = 16
#: As ReplyPlan, but for the rows that were cut.
_PLAN = struct.Struct("=??qdd%ds" % MODEL_BYTES)


class ReplyPlan(NamedTuple):
    """How the client wants its reply, and what it is to be told of it.

    ``model`` is the fingerprint of the one that computes it, in ASCII; b"": it isn't known. Times
    are of the machine's steady clock, which all its processes share.
    """

    stream: bool  # in parts, as they come
    half: bool  # as float16
    num_tokens: int
    accepted: float
    tokenized: float
    model: bytes = b""
    truncated: Tuple[int, ...] = ()  # rows

    def packed(self) -> Tuple[bytes, bytes]:
        """As bytes: what is of fixed size, and the rows that were cut."""
        return _PLAN.pack(*self[:-1]), np.array(self.truncated, np.int64).tobytes()

    @classmethod
    def unpacked(cls, data: bytes, start: int, truncated: bytes) -> ReplyPlan:
        """The plan again, whose part of fixed size begins at ``start``."""
        plan = cls(*_PLAN.unpack_from(data, start))
        rows = tuple(np.frombuffer(truncated, np.int64).tolist())
        return plan._replace(model=plan.model.rstrip(b"\0"), truncated=rows)

    def details(self, began: float, now: float, failed: Mapping[int, str]) -> Details:
        """What the client is told at ``now`` of a request whose first batch ``began`` then."""
        timings = Timings(
            tokenize=self.tokenized - self.accepted,
            queue=began - self.accepted,
            compute=now - began,
            total=now - self.accepted,
        )
        model = self.model.decode("ascii") or None
        return Details(self.num_tokens, self.truncated, timings, failed=failed, model=model)
