"""What this project's client adds, against a real bert-as-service 1.10, which doesn't know of it.

What can be done in the client is done there; the rest raises NotSupported.
"""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from e2e.support import TIMEOUT, Reference, Serve, check

from bert_serving.benchmarks.chaos.relay import Relay
from bert_serving.client import BertClient, NotSupported, RequestTimeout, Response

#: The environment is made within the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_pairs(client: BertClient) -> None:
    pairs = [("how old are you?", "i am six years old."), ("a", "b")]
    written = client.encode([" ||| ".join(pair) for pair in pairs])
    check(client.encode(pairs=pairs), written)
    check(client.encode(pairs=[list(pair) for pair in pairs]), written)


def test_half_precision_and_unit_length(client: BertClient, reference: Reference) -> None:
    half = client.encode(reference.texts, dtype="float16")
    assert half.dtype == np.float16
    check(half, reference.vectors, 4e-3)
    unit = reference.vectors / np.linalg.norm(reference.vectors, axis=1, keepdims=True)
    check(client.encode(reference.texts, normalize=True), unit)
    both = client.encode(reference.texts, normalize=True, dtype="float16")
    assert both.dtype == np.float16
    check(both, unit, 1e-3)


def test_a_stream_of_one_part(client: BertClient, reference: Reference) -> None:
    ((rows, vectors),) = client.encode(reference.texts, stream=True)
    assert rows.tolist() == list(range(len(reference.texts)))
    check(vectors, reference.vectors)


def test_details(client: BertClient, reference: Reference) -> None:
    response = client.encode(reference.texts, show_tokens=True, details=True)
    assert isinstance(response, Response)
    check(response.embedding, reference.vectors)
    assert response.tokens == reference.tokens
    assert response.offsets is None


def test_a_timeout_of_one_call(client: BertClient, reference: Reference) -> None:
    check(client.encode(reference.texts, timeout=60.0), reference.vectors)
    with pytest.raises(RequestTimeout):
        client.encode(reference.texts, timeout=1e-6)
    # The late reply is nobody's.
    check(client.encode(reference.texts), reference.vectors)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"truncate": "left"}, "truncate='left'"),
        ({"truncate": False}, "truncate=False"),
        ({"pooling_strategy": "CLS_TOKEN"}, "pooling_strategy='CLS_TOKEN'.* REDUCE_MEAN"),
        ({"pooling_layer": -2}, r"layers \[-2\].* \[-1\]"),
        ({"show_offsets": True}, "show_offsets"),
        ({"texts": None, "pairs": [("a ||| b", "c")]}, r"pairs\[0\]"),
    ],
)
def test_what_1_10_can_not_do(
    wanted: Dict[str, Any], named: str, client: BertClient, reference: Reference
) -> None:
    before = client.request_id
    with pytest.raises(NotSupported, match=r"bert-as-service 1\.10 .*" + named):
        client.encode(**{"texts": reference.texts[:1], **wanted})
    assert client.request_id == before
    check(client.encode(reference.texts[:1]), reference.vectors[:1])


def test_what_it_does_anyway_can_be_asked_for(client: BertClient, reference: Reference) -> None:
    vectors = client.encode(reference.texts, pooling_strategy="REDUCE_MEAN", pooling_layer=-1)
    check(vectors, reference.vectors)


def test_a_connection_that_breaks(
    serve_original: Serve, cases: List[Dict[str, Any]], reference: Reference
) -> None:
    """1.10 mixes up two requests with one id, so what is asked again has another."""
    small = ["-max_batch_size", "4", "-priority_batch_size", "1"]
    texts = reference.texts * 40
    with serve_original(*cases[2]["flags"], *small) as target, Relay(target.port) as to, Relay(
        target.port_out
    ) as back, BertClient(
        port=to.port, port_out=back.port, timeout=TIMEOUT, check_length=False
    ) as client, BertClient(
        port=target.port, port_out=target.port_out, timeout=TIMEOUT
    ) as observer:
        client.encode(texts, blocking=False)
        while not observer.server_status["statistic"]["num_data_request"]:
            pass
        to.cut()
        back.cut()
        check(client.fetch_all(concat=True), np.tile(reference.vectors, (40, 1)))
        assert observer.server_status["statistic"]["num_data_request"] == 2
