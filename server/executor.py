"""Tells the schedulers what happens, and does what they decide."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import List, Optional, Union

import zmq

from bert_serving.client import multipart
from bert_serving.server import work
from bert_serving.server.answers import Answers
from bert_serving.server.batch_messages import BatchMessage
from bert_serving.server.batching import pack
from bert_serving.server.generation import Generation
from bert_serving.server.generations import Generations
from bert_serving.server.link import Link
from bert_serving.server.open_requests import OpenRequests
from bert_serving.server.request_messages import Dropped, RowLost
from bert_serving.server.stats import Statistics

__all__ = ["Executor"]

logger = logging.getLogger(__name__)


class Executor:
    """``workers`` is the socket of batches; requests that end are taken out of ``requests``."""

    def __init__(
        self,
        generations: Generations,
        requests: OpenRequests,
        statistics: Statistics,
        workers: zmq.Socket,
        answers: Answers,
        link: Link,
    ) -> None:
        self._generations = generations
        self._open = requests
        self._statistics = statistics
        self._workers = workers
        self._answers = answers
        self._link = link

    def schedule(self, event: work.Event, generation: Optional[Generation] = None) -> None:
        """Tell of an event; without a generation, all of them."""
        now = time.monotonic()
        if generation is not None:
            self._perform(generation.scheduler.handle(event, now))
            return
        for actions in self._generations.handle(event, now):
            self._perform(actions)

    def fail_all(self, kind: str, message: str) -> None:
        """End every open request in an error."""
        for scheduler in self._generations.schedulers:
            self._perform(scheduler.fail_all(kind, message))

    def _perform(self, actions: List[work.Action]) -> None:
        pending = deque(actions)
        while pending:
            action = pending.popleft()
            if isinstance(action, work.Dispatch):
                # What follows comes last, for batches must leave in the order of their numbers.
                pending.extend(self._dispatch(action))
                continue
            if isinstance(action, (work.Unfit, work.LimitsChanged, work.RowFailed)):
                self._note_trouble(action)
                continue
            accepted = self._open.pop(action.handle)
            if isinstance(action, work.Failed):
                error = action.kind, action.message, action.retry_after
                self._answers.fail(action.handle, accepted.request, *error)
            elif isinstance(action, work.Completed):
                self._open.note_completed(accepted, time.monotonic())
            elif isinstance(action, work.Forgotten):
                self._answers.send(Dropped(action.handle))

    def _note_trouble(self, action: Union[work.Unfit, work.LimitsChanged, work.RowFailed]) -> None:
        if isinstance(action, work.Unfit):
            worker = action.worker.decode("ascii")
            self._link.report("hung", worker=worker, reason=action.reason)
        elif isinstance(action, work.LimitsChanged):
            tokens = action.limits.tokens
            logger.warning("for lack of memory, batches count at most %d tokens for now", tokens)
        else:
            self._answers.send(RowLost(action.handle, action.index, action.message))

    def _dispatch(self, action: work.Dispatch) -> List[work.Action]:
        """Send a batch; returns what is to be done if that fails."""
        batch = action.batch
        handles, indices, lengths, features = pack(batch.rows)
        poolings = self._open.note_sent(dict.fromkeys(handles.tolist()), time.monotonic())
        message = BatchMessage(
            batch.batch_id, handles, indices, lengths, features, action.alone, poolings
        )
        rows = len(batch.rows)
        self._statistics.count_batch(rows, batch.tokens, batch.longest * rows)
        try:
            multipart.send(self._workers, [action.worker] + message.frames())
        except zmq.ZMQError as error:
            # The connection is gone; the scheduler gives the rows to another worker.
            lost = work.WorkerLost(action.worker, str(error), unsent=batch.batch_id)
            now = time.monotonic()
            return [one for actions in self._generations.handle(lost, now) for one in actions]
        return []
