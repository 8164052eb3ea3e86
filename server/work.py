"""What the scheduler is told, its events, and what it answers, its actions.

Pure values. A request is known by its handle, a number that is given out once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Tuple, Union

from bert_serving.server.batching import BatchLimits, Row

__all__ = [
    "Action",
    "Batch",
    "Cancelled",
    "ClientGone",
    "Completed",
    "Dispatch",
    "Event",
    "Failed",
    "Forgotten",
    "LimitsChanged",
    "Opened",
    "Rejected",
    "RowFailed",
    "RowsReady",
    "Tick",
    "Unfit",
    "WorkDone",
    "WorkFailed",
    "WorkerJoined",
    "WorkerLost",
]


# ------------------------------------------------------------------------------------ events


@dataclass(frozen=True)
class Opened:
    """A request was accepted; its rows follow in ``RowsReady`` as they are tokenized."""

    handle: int
    client: bytes
    total_rows: int
    deadline: Optional[float] = None
    partial: bool = False  # rows may fail without the others
    user: str = ""  # of the client's, whose requests stand in a line of their own


@dataclass(frozen=True)
class RowsReady:
    """Some rows of an open request are tokenized."""

    handle: int
    rows: Tuple[Row, ...]


@dataclass(frozen=True)
class Rejected:
    """An open request can't be served; its error was found after it was opened."""

    handle: int
    kind: str
    message: str
    retry_after: Optional[float] = None  # seconds


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready to hold ``credits`` batches at a time, and to compute ``streams``."""

    worker: bytes
    credits: int
    streams: int = 1


@dataclass(frozen=True)
class WorkDone:
    """A worker has sent a batch's vectors to the sink."""

    worker: bytes
    batch_id: int


@dataclass(frozen=True)
class WorkFailed:
    """A worker could not compute a batch."""

    worker: bytes
    batch_id: int
    message: str
    out_of_memory: bool = False  # there was too little for a batch of this size


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone with all the batches it held; the one that is ``unsent`` it never got."""

    worker: bytes
    reason: str
    unsent: Optional[int] = None


@dataclass(frozen=True)
class ClientGone:
    """Nobody waits for this client's replies any more."""

    client: bytes


@dataclass(frozen=True)
class Cancelled:
    """The client no longer wants this request."""

    handle: int


@dataclass(frozen=True)
class Tick:
    """Time has passed; deadlines may have."""


Event = Union[
    Opened,
    RowsReady,
    Rejected,
    WorkerJoined,
    WorkDone,
    WorkFailed,
    WorkerLost,
    ClientGone,
    Cancelled,
    Tick,
]


# ----------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Batch:
    """Rows computed together, ordered by request and index.

    ``attempt`` is one more than the number of times that batches with all of these rows failed. One
    that is ``suspect`` is computed by a worker that holds nothing else; ``failed_alone`` is how
    often its only row failed by itself.
    """

    batch_id: int
    rows: Tuple[Row, ...]
    attempt: int = 1
    suspect: bool = False
    failed_alone: int = 0
    tokens: int = field(init=False)
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        lengths = [row[2] for row in self.rows]
        # The way around a frozen dataclass; the cost is asked for at every event.
        object.__setattr__(self, "tokens", sum(lengths))
        object.__setattr__(self, "longest", max(lengths))

    def cost(self, limits: BatchLimits) -> float:
        """What it costs to compute, in tokens."""
        return limits.call_tokens + limits.weighted(len(self.rows), self.tokens, self.longest)


@dataclass(frozen=True)
class Dispatch:
    """Send ``batch`` to ``worker``; if it is ``alone``, nothing else is computed there then."""

    worker: bytes
    batch: Batch
    alone: bool = True


@dataclass(frozen=True)
class Completed:
    """All rows of the request are computed."""

    handle: int


@dataclass(frozen=True)
class Failed:
    """Answer the request with an error."""

    handle: int
    kind: str
    message: str
    retry_after: Optional[float] = None  # seconds


@dataclass(frozen=True)
class RowFailed:
    """A row can't be computed; its request, which is ``partial``, goes on without it."""

    handle: int
    index: int
    message: str


@dataclass(frozen=True)
class Unfit:
    """A worker hangs, or fails whatever it gets: it should be replaced."""

    worker: bytes
    reason: str


@dataclass(frozen=True)
class LimitsChanged:
    """Batches count at most so many tokens from now on."""

    limits: BatchLimits


@dataclass(frozen=True)
class Forgotten:
    """Nobody waits for the request's result; what there is of it can be thrown away."""

    handle: int


Action = Union[Dispatch, Completed, Failed, Forgotten, RowFailed, Unfit, LimitsChanged]
