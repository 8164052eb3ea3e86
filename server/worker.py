"""A worker process: asks the ventilator for batches, computes them, hands vectors to the sink."""

from __future__ import annotations

import logging

import numpy as np
import zmq

from bert_serving.server import engines
from bert_serving.server.engines import Engine, Features
from bert_serving.server.errors import EngineError
from bert_serving.server.link import Link
from bert_serving.server.messages import BatchMessage, Broken, Done, Part, Ready, decode
from bert_serving.server.spec import Endpoints, EngineSpec, ServiceSpec

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

#: Shapes run once before the first batch, so that it finds the engine's memory laid out.
WARM_UP = ((1, 8), (8, 16))


class Worker:
    """The process's sockets and its engine."""

    def __init__(
        self, context: zmq.Context, spec: ServiceSpec, endpoints: Endpoints, link: Link, name: str
    ) -> None:
        self._spec = spec
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

    def run(self, device: int) -> None:
        """Load the engine, then serve until told to stop."""
        self._engine.load(self._spec.engine, device)
        warm_up(self._engine, self._spec.tokenizer.max_length)
        self._ventilator.send_multipart(Ready(self._spec.credits).frames())
        self._link.report("ready")
        poller = zmq.Poller()
        poller.register(self._ventilator, zmq.POLLIN)
        self._link.register(poller)
        while True:
            ready = dict(poller.poll())
            for command in self._link.commands(ready):
                if command["command"] == "stop":
                    return
            if self._ventilator in ready:
                message = decode(self._ventilator.recv_multipart())
                assert isinstance(message, BatchMessage)
                self._serve(message)

    def close(self) -> None:
        self._engine.close()
        self._ventilator.close()
        self._sink.close()

    def _serve(self, batch: BatchMessage) -> None:
        features = Features(batch.features, batch.lengths)
        try:
            vectors = compute(self._engine, features, self._spec.engine)
        except Exception as error:
            logger.exception("batch %d failed", batch.batch_id)
            reason = "%s: %s" % (type(error).__name__, error)
            self._ventilator.send_multipart(Broken(batch.batch_id, reason).frames())
            return
        logger.debug(
            "batch %d: %d rows, %d tokens", batch.batch_id, features.rows, features.tokens.shape[1]
        )
        part = Part(
            batch.handles, batch.indices, batch.lengths, vectors, self._spec.engine.per_token
        )
        self._sink.send_multipart(part.frames(), copy=False)
        self._ventilator.send_multipart(Done(batch.batch_id).frames())


def compute(engine: Engine, features: Features, spec: EngineSpec) -> np.ndarray:
    """Vectors of a batch: [rows, dimension], or those of its tokens [tokens, dimension].

    Raises EngineError if the engine returns another shape.
    """
    vectors = engine.encode(features)
    expected = (features.tokens.shape[1] if spec.per_token else features.rows, spec.dimension)
    if vectors.shape != expected:
        raise EngineError(
            "the engine returned an array of shape %s, not %s" % (vectors.shape, expected)
        )
    return vectors


def warm_up(engine: Engine, max_length: int) -> None:
    """Run small batches of nothing."""
    for rows, length in WARM_UP:
        lengths = np.full(rows, min(length, max_length), np.int32)
        engine.encode(Features(np.ones((3, int(lengths.sum())), np.int32), lengths))
