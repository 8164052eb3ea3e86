"""A worker process: asks the ventilator for batches, computes them, hands vectors to the sink."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import List, Union

import numpy as np
import zmq

from bert_serving.client import multipart
from bert_serving.server import engines
from bert_serving.server.batch_messages import BatchMessage, Broken, Part, Ready
from bert_serving.server.computing import compute_batch
from bert_serving.server.engines import Engine, Features
from bert_serving.server.engines.memory import is_out_of_memory
from bert_serving.server.link import Link
from bert_serving.server.messages import decode
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.streams import InPlace, Streams, open_streams

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

#: Of a batch: its vectors, or why there are none.
Outcome = Union[List[Part], Broken]

#: Shapes run once before the first batch, so that it finds the engine's memory laid out.
WARM_UP = ((1, 8), (8, 16))


class Worker:
    """The process's sockets and its engine."""

    def __init__(
        self, context: zmq.Context, spec: ServiceSpec, endpoints: Endpoints, link: Link, name: str
    ) -> None:
        self._spec = spec
        self._name = name
        self._link = link
        self._ventilator = context.socket(zmq.DEALER)
        self._ventilator.setsockopt(zmq.IDENTITY, name.encode("ascii"))
        self._ventilator.setsockopt(zmq.LINGER, 0)
        self._ventilator.set_hwm(0)
        self._ventilator.connect(endpoints.workers)
        self._sink = context.socket(zmq.PUSH)
        self._sink.set_hwm(0)
        self._sink.setsockopt(zmq.LINGER, 1000)
        self._sink.connect(endpoints.results)
        self._engine = engines.create(spec.engine.name)
        self._streams: Streams[BatchMessage, Outcome] = InPlace(self._compute)

    def run(self, device: int) -> None:
        """Load the engine, then serve until told to stop."""
        engine = self._spec.engine
        self._engine.load(engine, device)
        warm_up(self._engine, self._spec.tokenizer.max_length)
        self._streams = open_streams(self._compute, engine.streams)
        ready = Ready(self._spec.credits, engine.streams, self._spec.generation)
        multipart.send(self._ventilator, ready.frames())
        self._link.report("ready")
        poller = zmq.Poller()
        poller.register(self._ventilator, zmq.POLLIN)
        self._link.register(poller)
        wake_up_fd = self._streams.wake_up_fd
        if wake_up_fd is not None:
            poller.register(wake_up_fd, zmq.POLLIN)
        while True:
            events = dict(poller.poll())
            for command in self._link.commands(events):
                if command["command"] == "stop":
                    return
            if self._ventilator in events:
                for frames in multipart.received(self._ventilator):
                    message = decode(multipart.contents(frames))
                    assert isinstance(message, BatchMessage)
                    self._streams.submit(message, message.alone)
                    if wake_up_fd is None:
                        self._hand_over()
            if wake_up_fd in events:
                self._hand_over()

    def close(self) -> None:
        self._streams.close()
        self._engine.close()
        self._ventilator.close()
        self._sink.close()

    def _compute(self, batch: BatchMessage) -> Outcome:
        began = time.monotonic()
        spec = self._spec
        try:
            parts = compute_batch(self._engine, spec.engine, spec.pooling, batch, began)
        except Exception as error:
            logger.exception("batch %d failed", batch.batch_id)
            message = "%s: %s" % (type(error).__name__, error)
            return Broken(self._name, batch.batch_id, message, is_out_of_memory(error))
        logger.debug(
            "batch %d: %d rows, %d tokens",
            batch.batch_id,
            len(batch.lengths),
            batch.features.shape[1],
        )
        parts[-1] = replace(parts[-1], ends=batch.batch_id, worker=self._name)
        return parts

    def _hand_over(self) -> None:
        """Send the vectors to the sink, which tells the ventilator what has ended."""
        for outcome in self._streams.take():
            for message in [outcome] if isinstance(outcome, Broken) else outcome:
                multipart.send(self._sink, message.frames(), lend=True)


def warm_up(engine: Engine, max_length: int) -> None:
    """Run small batches of nothing, in both ways."""
    for rows, length in WARM_UP:
        lengths = np.full(rows, min(length, max_length), np.int32)
        features = Features(np.ones((3, int(lengths.sum())), np.int32), lengths)
        engine.encode(features, is_alone=True)
        engine.encode(features, is_alone=False)
