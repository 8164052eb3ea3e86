from __future__ import annotations

from dataclasses import replace

from unit.server.support import echo_spec

from bert_serving.client.frames import encode_texts
from bert_serving.client.options import NO_OPTIONS
from bert_serving.client.protocol import Request
from bert_serving.server.open_requests import OpenRequests
from bert_serving.server.reception import Reception
from bert_serving.server.sizes import Size
from bert_serving.server.stats import Statistics


def test_a_request_keeps_the_model_that_was_served_when_it_came() -> None:
    statistics = Statistics(0.0)
    old = echo_spec()
    new = replace(old, model_fingerprint="f" * 16, generation=2)
    reception = Reception(old, statistics, OpenRequests(statistics, Size(0, 0)))
    requests = [Request(b"me", encode_texts(["a"]), number, 1, NO_OPTIONS) for number in (1, 2)]
    first = reception.take(requests[0], 1.0)
    reception.spec = new
    second = reception.take(requests[1], 2.0)
    for accepted, spec in ((first, old), (second, new)):
        assert accepted is not None
        plan = accepted.registered(256, 25, False, 3.0).plan
        assert plan is not None
        assert plan.model.decode("ascii") == spec.model_fingerprint
