from __future__ import annotations

import threading
import time
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import zmq
from support import PATIENCE
from unit.server.support import FakeLink, Hub, echo_spec, inproc, receive

from bert_serving.server.batch_messages import BatchMessage, Broken, Part, Ready
from bert_serving.server.engines import Engine, Features
from bert_serving.server.messages import decode
from bert_serving.server.pooling import HiddenStates, Pooling
from bert_serving.server.spec import EngineSpec
from bert_serving.server.worker import WARM_UP, Worker, warm_up


class Recorder(Engine):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: List[Tuple[Features, bool]] = []

    def load(self, spec: EngineSpec, device: int) -> None:
        raise NotImplementedError

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        self.asked.append((features, is_alone))
        return np.zeros((features.rows, 2))

    def hidden_states(self, *_: Any, **__: Any) -> HiddenStates:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("max_length", "lengths"), [(512, [8, 16]), (10, [8, 10]), (4, [4, 4])])
def test_warming_up_keeps_to_the_longest_sequence(max_length: int, lengths: List[int]) -> None:
    engine = Recorder()
    warm_up(engine, max_length)
    assert [(features.lengths.tolist(), is_alone) for features, is_alone in engine.asked] == [
        ([length] * rows, is_alone)
        for (rows, _), length in zip(WARM_UP, lengths)
        for is_alone in (True, False)
    ]


def batch(batch_id: int, poolings: Dict[int, Pooling]) -> BatchMessage:
    """A text of two tokens and one of a single one, each of its own request."""
    lengths, tokens = np.array([2, 1], np.int32), np.ones((3, 3), np.int32)
    handles, indices = np.array([5, 6], np.int64), np.array([0, 0], np.int32)
    return BatchMessage(batch_id, handles, indices, lengths, tokens, True, poolings)


def test_a_batch_becomes_a_part_for_each_pooling_and_then_is_done(hub: Hub, link: FakeLink) -> None:
    endpoints = inproc()
    ventilator, sink = hub.socket(zmq.ROUTER), hub.socket(zmq.PULL)
    ventilator.bind(endpoints.workers)
    sink.bind(endpoints.results)
    worker = Worker(hub.context, echo_spec(), endpoints, link, "worker-0")
    thread = threading.Thread(target=worker.run, args=(-1,))
    started = time.monotonic()
    thread.start()
    try:
        name, ready = receive(ventilator)
        assert isinstance(decode([ready]), Ready)
        assert link.heard() == {"event": "ready"}
        for batch_id, poolings, shapes in (
            (1, {}, [(2, 768)]),
            (2, {6: Pooling("NONE", (0, 1), False)}, [(1, 768), (1, 1536)]),
        ):
            ventilator.send_multipart([name, *batch(batch_id, poolings).frames()])
            parts = [decode(receive(sink)) for _ in shapes]
            for part, shape in zip(parts, shapes):
                assert isinstance(part, Part)
                assert part.vectors.shape == shape
                assert started <= part.began <= time.monotonic()
            assert [getattr(part, "ends", None) for part in parts][:-1] == [0] * (len(parts) - 1)
            last = parts[-1]
            assert isinstance(last, Part)
            assert (last.ends, last.worker) == (batch_id, "worker-0")
        ventilator.send_multipart([name, *batch(3, {5: Pooling("MEDIAN", (0,), False)}).frames()])
        assert decode(receive(sink)) == Broken("worker-0", 3, "KeyError: 'MEDIAN'")
    finally:
        link.post("stop")
        thread.join(PATIENCE)
        worker.close()
    assert not thread.is_alive()
