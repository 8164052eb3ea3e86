"""Non-blocking encode, fetch, encode_async, and several threads at one client."""

from __future__ import annotations

import random
import threading
from typing import Any, Iterator, List

import numpy as np
import pytest

from bert_serving.client import (
    BadRequest,
    ClientClosed,
    ProtocolError,
    RequestTimeout,
    Response,
)
from bert_serving.client.frames import parse_texts
from bert_serving.client.protocol import Details, ErrorKind, topic_of
from bert_serving.client.reply_frames import error_frames, vectors_frames


@pytest.fixture(params=["ours", "1.10"])
def client(request: Any, make_server: Any, connect: Any) -> Any:
    return connect(make_server(is_1_10=request.param == "1.10"))


def drain(responses: Iterator[Response], into: List[Response]) -> None:
    """Keep what comes before an error."""
    for response in responses:
        into.append(response)


def fail_bad_texts(server: Any, answer: Any) -> None:
    """Let the server answer texts that are "bad" with an error."""

    def texts(request: Any) -> Any:
        if b"bad" in request.payload:
            return [error_frames(request.identity, request.request_id, ErrorKind.BAD_REQUEST, "no")]
        return [answer(request)]

    server.script.texts = texts


# ------------------------------------------------------------------------------------ fetch


def test_nothing_to_fetch(client: Any) -> None:
    assert list(client.fetch()) == []
    assert client.fetch_all() is None
    assert client.fetch_all(concat=True) is None


def test_fetch(client: Any, vectors: Any) -> None:
    for text in ("a", "b", "c"):
        assert client.encode([text], blocking=False) is None
    responses = list(client.fetch(delay=99))  # not slept
    assert sorted(response.id for response in responses) == [2, 3, 4]
    for response, text in zip(sorted(responses), "abc"):
        np.testing.assert_array_equal(response.embedding, vectors([text]))
        assert response.tokens == ""
    assert client.pending_request == set()


def test_response_is_1_10s_named_tuple() -> None:
    assert Response._fields[:3] == ("id", "embedding", "tokens")
    assert Response(1, [[0.5]], "") == (1, [[0.5]], "", None, (), None, None, {}, None)


def test_fetch_has_tokens(server: Any, connect: Any, answer: Any) -> None:
    client = connect(server)
    server.script.texts = lambda request: [answer(request, b'[["a"]]')]
    client.encode(["a"], blocking=False)
    assert next(client.fetch()).tokens == [["a"]]


def test_fetch_in_the_order_of_arrival(server: Any, connect: Any, hold: Any) -> None:
    client = connect(server)
    server.script.texts = hold(3, lambda replies: [replies[2], replies[0], replies[1]])
    for text in ("a", "b", "c"):
        client.encode([text], blocking=False)
    assert [response.id for response in client.fetch()] == [4, 2, 3]


def test_fetch_all(server: Any, connect: Any, hold: Any, vectors: Any) -> None:
    client = connect(server)
    for sort, order in ((True, "abc"), (False, "cba")):
        server.script.texts = hold(3, reversed)
        for text in ("a", "b", "c"):
            client.encode([text], blocking=False)
        results = client.fetch_all(sort=sort)
        assert isinstance(results, list)
        for result, text in zip(results, order):
            np.testing.assert_array_equal(result, vectors([text]))


def test_fetch_all_concat(server: Any, connect: Any, vectors: Any) -> None:
    texts = [["a", "b"], ["c"]]
    for output_fmt in ("ndarray", "list"):
        client = connect(server, output_fmt=output_fmt)
        for batch in texts:
            client.encode(batch, blocking=False)
        result = client.fetch_all(concat=True)
        assert isinstance(result, np.ndarray if output_fmt == "ndarray" else list)
        np.testing.assert_array_equal(result, vectors("abc"))


def tokens_reply(request: Any) -> Any:
    """Token vectors: a vector of ones for each word, of as many numbers as the first one says."""
    texts, _ = parse_texts(request)
    length = max(len(text.split()) for text in texts)
    array = np.zeros((len(texts), length, int(texts[0].split()[0])), request.options.dtype)
    for row, text in enumerate(texts):
        array[row, : len(text.split())] = 1
    return [vectors_frames(request.identity, request.request_id, array, None, Details(1))]


def test_fetch_all_concat_of_different_lengths(server: Any, connect: Any) -> None:
    """As the token vectors of one request would be."""
    server.script.texts = tokens_reply
    batches = [["2 b", "2"], ["2 b c d"], ["2"]]
    for output_fmt in ("ndarray", "list"):
        client = connect(server, output_fmt=output_fmt)
        for batch in batches:
            client.encode(batch, blocking=False)
        result = client.fetch_all(concat=True)
        if output_fmt == "ndarray":
            whole = client.encode([text for batch in batches for text in batch])
            np.testing.assert_array_equal(result, whole)
            assert result.dtype == np.float32
        else:
            assert [len(row) for row in result] == [2, 2, 4, 1]


def test_fetch_all_concat_of_different_dtypes(server: Any, connect: Any, vectors: Any) -> None:
    client = connect(server)
    client.encode(["a"], blocking=False, dtype="float16")
    client.encode(["b"], blocking=False)
    result = client.fetch_all(concat=True)
    np.testing.assert_array_equal(result, vectors("ab"))
    assert result.dtype == np.float32


@pytest.mark.parametrize(("text", "shape"), [("3 b c", "1, 3, 3"), ("pooled", "1, 2")])
def test_what_can_not_be_put_together_can_still_be_fetched(
    server: Any, connect: Any, answer: Any, text: str, shape: str
) -> None:
    server.script.texts = lambda request: (
        [answer(request)] if b"pooled" in request.payload else tokens_reply(request)
    )
    client = connect(server)
    for one in ("2 b", text):
        client.encode([one], blocking=False)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\[1, 2, 2\] and \[%s\] .* without concat" % shape):
            client.fetch_all(concat=True)
    assert [str(list(result.shape)) for result in client.fetch_all()] == [
        "[1, 2, 2]",
        "[%s]" % shape,
    ]


def test_blocking_encode_amid_others(server: Any, connect: Any, hold: Any, vectors: Any) -> None:
    """What came while another reply was waited for is there to fetch."""
    client = connect(server)
    server.script.texts = hold(3)
    client.encode(["a"], blocking=False)
    client.encode(["b"], blocking=False)
    np.testing.assert_array_equal(client.encode(["c"]), vectors(["c"]))
    assert set(client.pending_response) == {2, 3}
    assert client.pending_request == {2, 3}
    assert client.server_config["max_seq_len"] == 25
    assert [response.id for response in client.fetch()] == [2, 3]
    assert client.fetch_all() is None


def test_fetch_raises_an_error_in_its_turn(
    server: Any, connect: Any, answer: Any, vectors: Any
) -> None:
    client = connect(server)
    fail_bad_texts(server, answer)
    for text in ("a", "bad", "c"):
        client.encode([text], blocking=False)
    fetched: List[Any] = []
    with pytest.raises(BadRequest, match="no"):
        drain(client.fetch(), fetched)
    fetched.extend(client.fetch())
    assert sorted(response.id for response in fetched) == [2, 4]
    assert client.pending_request == set()


def test_fetch_all_loses_nothing_to_an_error(
    server: Any, connect: Any, answer: Any, vectors: Any
) -> None:
    client = connect(server)
    fail_bad_texts(server, answer)
    for text in ("a", "bad", "c"):
        client.encode([text], blocking=False)
    with pytest.raises(BadRequest, match="no"):
        client.fetch_all()
    np.testing.assert_array_equal(client.fetch_all(concat=True), vectors(["a", "c"]))


def test_fetch_times_out_and_can_go_on(server: Any, connect: Any, hold: Any, vectors: Any) -> None:
    client = connect(server)
    client.timeout = 100
    server.script.texts = hold(2)
    client.encode(["a"], blocking=False)
    with pytest.raises(RequestTimeout):
        next(client.fetch())
    with pytest.raises(RequestTimeout):
        client.fetch_all()
    assert client.pending_request == {2}
    client.timeout = 10_000
    client.encode(["b"], blocking=False)
    np.testing.assert_array_equal(client.fetch_all(concat=True), vectors(["a", "b"]))


def test_unattributable_reply_loses_nothing(server: Any, connect: Any, answer: Any) -> None:
    client = connect(server)
    server.script.texts = lambda request: [
        [topic_of(request.identity), b"{}", b"", b"no number"],
        answer(request),
    ]
    client.encode(["a"], blocking=False)
    with pytest.raises(ProtocolError):
        client.fetch_all()
    assert len(client.fetch_all()) == 1


# ----------------------------------------------------------------------------- encode_async


def batches(count: int) -> List[List[str]]:
    return [["batch %d" % number, "of two"] for number in range(count)]


def test_encode_async(client: Any, vectors: Any) -> None:
    responses = sorted(client.encode_async(iter(batches(20)), delay=99))
    assert [response.id for response in responses] == list(range(2, 22))
    for response, batch in zip(responses, batches(20)):
        np.testing.assert_array_equal(response.embedding, vectors(batch))
    assert client.pending_request == set()


def test_encode_async_of_tokens(client: Any, vectors: Any) -> None:
    tokenized = [["a", "b"], ["c"]]
    (response,) = client.encode_async([tokenized], is_tokenized=True)
    np.testing.assert_array_equal(response.embedding, vectors(tokenized))


@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (99, 5), (None, 5), (0, 5)])
def test_max_num_batch(server: Any, connect: Any, limit: Any, expected: int) -> None:
    source = iter(batches(5))
    assert len(list(connect(server).encode_async(source, limit))) == expected
    assert len(list(source)) == 5 - expected


def test_slow_generator(server: Any, connect: Any) -> None:
    """It isn't over when everything sent has come back and more is still to be sent."""
    received = threading.Semaphore(0)

    def generate() -> Iterator[List[str]]:
        for batch in batches(5):
            yield batch
            assert received.acquire(timeout=10)

    count = 0
    for _ in connect(server, timeout=5000).encode_async(generate()):
        count += 1
        received.release()
    assert count == 5


def test_window(server: Any, connect: Any, monkeypatch: Any) -> None:
    """A consumer that doesn't take results stops the sender."""
    monkeypatch.setattr("bert_serving.client.feeder.ASYNC_WINDOW", 3)
    client = connect(server)
    taken, most = 0, 0
    for _ in client.encode_async(batches(30)):
        most = max(most, len(server.texts) - taken)
        taken += 1
    assert taken == 30
    assert most <= 4


def test_failing_generator(server: Any, connect: Any) -> None:
    def generate() -> Iterator[List[str]]:
        yield from batches(3)
        raise LookupError("no more")

    fetched: List[Response] = []
    client = connect(server)
    with pytest.raises(LookupError, match="no more"):
        drain(client.encode_async(generate()), fetched)
    assert len(fetched) == 3
    assert client.pending_request == set()


@pytest.mark.parametrize("source", [[["a"], [""]], [["a"], "b"], [["a"], None]])
def test_bad_batch(server: Any, connect: Any, source: Any) -> None:
    fetched: List[Response] = []
    with pytest.raises((TypeError, ValueError)):
        drain(connect(server).encode_async(source), fetched)
    assert len(fetched) == 1


def test_no_generator(server: Any, connect: Any) -> None:
    client = connect(server)
    with pytest.raises(TypeError):
        list(client.encode_async(5))
    with pytest.raises(TypeError):
        client.encode_async([["a"]], no_such_option=True)


def test_early_close(
    server: Any, connect: Any, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender ends, and results that nobody wants aren't given to the next who asks."""
    monkeypatch.setattr("bert_serving.client.feeder.ASYNC_WINDOW", 8)

    def forever() -> Iterator[List[str]]:
        while True:
            yield ["again"]

    client = connect(server)
    before = threading.active_count()
    for _ in range(3):
        iterator = client.encode_async(forever())
        next(iterator)
        iterator.close()
        assert threading.active_count() == before
        assert client.pending_request == set()
    np.testing.assert_array_equal(client.encode(["b"]), vectors(["b"]))
    assert client.fetch_all() is None
    assert list(iterator) == []


def test_not_started(server: Any, connect: Any) -> None:
    iterator = connect(server).encode_async(batches(3))
    iterator.close()
    assert server.texts == []


def test_generator_that_does_not_return(server: Any, connect: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("bert_serving.client.feeder.STOP_SECONDS", 0.05)
    goes_on = threading.Event()
    ended = threading.Event()

    def generate() -> Iterator[List[str]]:
        try:
            yield ["a"]
            goes_on.wait(10)
            yield ["b"]
        finally:
            ended.set()

    iterator = connect(server).encode_async(generate())
    next(iterator)
    feeder = [thread for thread in threading.enumerate() if "feeder" in thread.name]
    with pytest.warns(RuntimeWarning, match="batch generator"):
        iterator.close()
    goes_on.set()
    assert ended.wait(10)
    for thread in feeder:
        thread.join(10)
    assert server.texts == [["a"]]


def test_encode_async_leaves_the_rest_to_fetch_after_an_error(
    server: Any, connect: Any, answer: Any
) -> None:
    client = connect(server)
    fail_bad_texts(server, answer)
    got: List[Response] = []
    with pytest.raises(BadRequest):
        drain(client.encode_async([["a"], ["bad"], ["c"], ["d"]]), got)
    sent = client.request_id - 1
    got.extend(client.fetch())
    assert len(got) == sent - 1
    assert client.pending_request == set()


def test_encode_async_leaves_others_alone(server: Any, connect: Any) -> None:
    client = connect(server)
    client.encode(["mine"], blocking=False)
    assert {response.id for response in client.encode_async(batches(3))} == {3, 4, 5}
    assert [response.id for response in client.fetch()] == [2]


def test_encode_async_times_out(server: Any, connect: Any, hold: Any) -> None:
    client = connect(server)
    client.timeout = 100
    server.script.texts = hold(99)
    with pytest.raises(RequestTimeout):
        next(client.encode_async(batches(3)))


def test_close_amid_encode_async(server: Any, connect: Any) -> None:
    client = connect(server)
    iterator = client.encode_async(batches(3))
    next(iterator)
    client.close()
    with pytest.raises(ClientClosed):
        list(iterator)


# ---------------------------------------------------------------------------------- threads


def test_blocking_calls_of_several_threads(
    server: Any, connect: Any, in_thread: Any, hold: Any, vectors: Any
) -> None:
    client = connect(server)

    def shuffled(replies: List[Any]) -> List[Any]:
        chosen, replies[:] = list(replies), []
        random.Random(len(chosen)).shuffle(chosen)
        return chosen

    server.script.texts = hold(4, shuffled)

    def work(name: int) -> None:
        for number in range(25):
            text = "%d of %d" % (number, name)
            np.testing.assert_array_equal(client.encode([text]), vectors([text]))

    for result in [in_thread(work, name) for name in range(4)]:
        result()
    assert client.dropped_replies == 0


def test_one_thread_sends_and_another_fetches(server: Any, connect: Any, in_thread: Any) -> None:
    client = connect(server)
    total = 200
    sent = threading.Event()

    def send() -> None:
        for number in range(total):
            client.encode(["text %d" % number], blocking=False)
        sent.set()

    def fetch() -> List[int]:
        ids: List[int] = []
        while len(ids) < total:
            ids.extend(response.id for response in client.fetch())
            if not client.pending_request and len(ids) < total:
                assert sent.wait(10)
        return ids

    sender, fetcher = in_thread(send), in_thread(fetch)
    sender()
    assert sorted(fetcher()) == list(range(2, total + 2))


def test_everything_at_once(server: Any, connect: Any, in_thread: Any, vectors: Any) -> None:
    client = connect(server)

    def block() -> None:
        for number in range(40):
            text = "blocking %d" % number
            np.testing.assert_array_equal(client.encode([text]), vectors([text]))

    def stream() -> int:
        return len(list(client.encode_async(batches(40))))

    for number in range(40):
        client.encode(["fetched %d" % number], blocking=False)
    blocking, streaming = [in_thread(block) for _ in range(2)], in_thread(stream)
    fetched = list(client.fetch())
    for result in blocking:
        result()
    assert streaming() == 40
    assert len(fetched) == 40
    assert client.pending_request == set()
    assert client.dropped_replies == 0


def test_two_threads_fetch(server: Any, connect: Any, in_thread: Any) -> None:
    client = connect(server)
    for number in range(50):
        client.encode(["text %d" % number], blocking=False)
    fetchers = [in_thread(lambda: list(client.fetch())) for _ in range(2)]
    ids = [response.id for fetcher in fetchers for response in fetcher()]
    assert sorted(ids) == list(range(2, 52))


def test_a_waiting_thread_times_out_behind_another(
    server: Any, connect: Any, hold: Any, in_thread: Any
) -> None:
    client = connect(server)
    server.script.texts = hold(3)
    first = in_thread(client.encode, ["a"])
    server.wait_for(1)
    client.timeout = 100
    with pytest.raises(RequestTimeout):
        client.encode(["b"])
    client.encode(["c"], blocking=False)
    assert first().shape == (1, 2)
