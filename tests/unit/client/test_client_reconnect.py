"""A server that goes and comes back on the same ports while calls wait for it."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

from bert_serving.client import BertClient, DeadlineExceeded, ModelChanged, RequestTimeout


@pytest.fixture(params=["ours", "1.10"])
def server(request: Any, make_server: Any) -> Any:
    return make_server(is_1_10=request.param == "1.10")


def never(request: Any) -> List[Any]:
    return []


def restart(server: Any, texts: Any) -> None:
    """A new server, which answers texts by ``texts``."""
    server.kill()
    server.script.texts = texts
    server.start()


def test_a_call_outlives_the_server(
    server: Any, connect: Any, in_thread: Any, vectors: Any
) -> None:
    client = connect(server, timeout=-1)
    normal, server.script.texts = server.script.texts, never
    waiting = in_thread(client.encode, ["a"])
    server.wait_for(1)
    restart(server, normal)
    np.testing.assert_array_equal(waiting(), vectors(["a"]))
    assert server.texts == [["a"], ["a"]]
    if server.script.is_1_10:
        assert server.headers == [None, None]
    else:
        assert server.headers == [{}, {"again": True}]
    assert client.dropped_replies == 0
    np.testing.assert_array_equal(client.encode(["b"]), vectors(["b"]))
    assert len(server.texts) == 3


def test_a_call_made_while_the_server_is_gone(
    server: Any, connect: Any, in_thread: Any, vectors: Any
) -> None:
    client = connect(server, timeout=-1)
    server.kill()
    waiting = in_thread(client.encode, ["a"])
    server.start()
    np.testing.assert_array_equal(waiting(), vectors(["a"]))


def test_nothing_is_sent_again_at_the_first_connection(
    server: Any, in_thread: Any, vectors: Any
) -> None:
    server.kill()

    def use() -> None:
        with BertClient("127.0.0.1", server.port, server.port_out, timeout=10_000) as client:
            np.testing.assert_array_equal(client.encode(["a"]), vectors(["a"]))

    using = in_thread(use)
    server.start()
    using()
    assert [frames[2] for frames in server.requests] == [b"1", b"2"]


def test_the_deadline_holds(make_server: Any, connect: Any, in_thread: Any) -> None:
    server = make_server()
    client = connect(server)
    server.script.texts = never
    waiting = in_thread(client.encode, ["a"], timeout=5.0)
    server.wait_for(1)
    restart(server, never)
    server.wait_for(2)
    with pytest.raises(RequestTimeout, match="5000 ms"):
        waiting()
    first, again = server.headers
    assert first == {"timeout": 5.0}
    assert again["again"] is True
    assert 0 < again["timeout"] < 5.0


def test_no_server_any_more(server: Any, connect: Any, in_thread: Any) -> None:
    client = connect(server)
    server.script.texts = never
    waiting = in_thread(client.encode, ["a"], timeout=0.5)
    server.wait_for(1)
    server.kill()
    with pytest.raises(RequestTimeout, match="500 ms"):
        waiting()


def test_commands_are_asked_again(server: Any, connect: Any, in_thread: Any) -> None:
    client = connect(server, timeout=-1)
    server.script.answers_commands = False
    waiting = in_thread(lambda: client.server_status)
    server.wait_until(lambda: len(server.requests) == 2)
    server.kill()
    server.script.answers_commands = True
    server.start()
    assert waiting()["asked"] == "SHOW_STATUS"


def test_what_is_fetched_later(server: Any, connect: Any, vectors: Any) -> None:
    client = connect(server)
    normal, server.script.texts = server.script.texts, never
    for text in ("a", "b", "c"):
        client.encode([text], blocking=False)
    server.wait_for(3)
    restart(server, normal)
    responses = sorted(client.fetch())
    assert [response.id for response in responses] == [2, 3, 4]
    for response, text in zip(responses, "abc"):
        np.testing.assert_array_equal(response.embedding, vectors([text]))
    assert client.dropped_replies == 0


def test_what_is_too_late_to_fetch(make_server: Any, connect: Any) -> None:
    server = make_server()
    client = connect(server)
    normal, server.script.texts = server.script.texts, never
    client.encode(["a"], blocking=False, timeout=1e-6)
    client.encode(["b"], blocking=False)
    server.wait_for(2)
    restart(server, normal)
    with pytest.raises(DeadlineExceeded):
        client.fetch_all()
    assert len(client.fetch_all()) == 1


def test_a_reply_that_comes_from_both_servers(server: Any, connect: Any, answer: Any) -> None:
    """The first reply is the one; the second is dropped."""
    client = connect(server)
    server.script.texts = lambda request: [answer(request), answer(request)]
    assert client.encode(["a"]).shape == (1, 2)
    client.encode(["b"])
    assert client.dropped_replies >= 1


def test_a_stream_goes_on(make_server: Any, connect: Any, parts: Any, vectors: Any) -> None:
    server = make_server()
    client = connect(server)
    texts = ["text %d" % number for number in range(7)]
    normal = server.script.texts
    server.script.texts = lambda request: parts(request, 2)[:2]
    stream = client.encode(texts, stream=True)
    seen = [next(stream)[0].tolist() for _ in range(2)]
    restart(server, lambda request: parts(request, 3))
    array = np.zeros((7, 2))
    for rows, part in stream:
        seen.append(rows.tolist())
        array[rows] = part
    assert seen == [[0, 1], [2, 3], [4, 5], [6]]
    np.testing.assert_array_equal(array[4:], vectors(texts[4:]))
    assert server.headers[1]["again"] is True
    server.script.texts = normal
    assert client.encode(["a"]).shape == (1, 2)


def test_a_stream_of_another_model(make_server: Any, connect: Any, parts: Any) -> None:
    server = make_server()
    client = connect(server)
    texts = ["text %d" % number for number in range(7)]
    normal = server.script.texts
    server.script.texts = lambda request: parts(request, 2)[:2]
    stream = client.encode(texts, stream=True)
    seen = [next(stream)[0].tolist() for _ in range(2)]
    restart(server, lambda request: parts(request, 3, "f" * 16)[:1])
    with pytest.raises(ModelChanged, match="ask again for all"):
        next(stream)
    assert seen == [[0, 1], [2, 3]]
    assert list(stream) == []
    server.wait_until(lambda: server.cancelled == [2])
    server.script.texts = normal
    assert client.encode(texts).shape == (7, 2)


def test_a_bar_over_two_models(
    make_server: Any, connect: Any, in_thread: Any, parts: Any, vectors: Any
) -> None:
    server = make_server()
    client = connect(server)
    texts = ["text %d" % number for number in range(7)]
    server.script.texts = lambda request: parts(request, 2)[:2]
    waiting = in_thread(client.encode, texts, show_progress=True)
    server.wait_for(1)
    # So that the parts have been read when the server goes.
    assert client.server_status["asked"] == "SHOW_STATUS"
    restart(server, lambda request: parts(request, 3, "f" * 16))
    with pytest.raises(ModelChanged):
        waiting()
    np.testing.assert_array_equal(client.encode(texts, show_progress=True), vectors(texts))


def test_many_threads(server: Any, connect: Any, in_thread: Any, vectors: Any) -> None:
    """32 of them wait when the server goes; each gets its own answer from the next one."""
    client = connect(server, timeout=-1)
    normal, server.script.texts = server.script.texts, never
    waiting = [in_thread(client.encode, ["text %d" % number]) for number in range(32)]
    server.wait_for(32)
    restart(server, normal)
    for number, result in enumerate(waiting):
        np.testing.assert_array_equal(result(), vectors(["text %d" % number]))
    assert client.pending_request == set()


def test_restarts_amid_everything(server: Any, connect: Any, in_thread: Any, vectors: Any) -> None:
    client = connect(server, timeout=-1)

    def work(name: int) -> None:
        for number in range(30):
            text = "%d of %d" % (number, name)
            np.testing.assert_array_equal(client.encode([text]), vectors([text]))

    def batches() -> int:
        return len(list(client.encode_async(["batch %d" % number] for number in range(100))))

    working = [in_thread(work, name) for name in range(4)] + [in_thread(batches)]
    for count in (10, 50, 90):
        server.wait_for(count)
        server.kill()
        server.start()
    for result in working:
        result()
    assert client.pending_request == set()
