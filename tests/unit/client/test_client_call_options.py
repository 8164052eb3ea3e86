"""The keyword arguments of BertClient.encode, against servers of both protocols."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import warnings
from typing import Any, List

import numpy as np
import pytest

from bert_serving.client import (
    BertClient,
    NotSupported,
    Overloaded,
    RequestTimeout,
    Response,
    TextTooLong,
    WorkerFailed,
)
from bert_serving.client.protocol import Details, ErrorKind
from bert_serving.client.reply_frames import error_frames, vectors_frames

LONG = " ".join(["word"] * 26)
PAIRS = [("a b", "c"), ["d", "e"]]
JOINED = ["a b ||| c", "d ||| e"]


@pytest.fixture
def ours(server: Any, connect: Any) -> Any:
    return connect(server)


@pytest.fixture
def old_server(make_server: Any) -> Any:
    return make_server(is_1_10=True)


@pytest.fixture
def old(old_server: Any, connect: Any) -> Any:
    return connect(old_server)


# ----------------------------------------------------------------------------- what is sent


def test_everything_is_sent(server: Any, ours: Any) -> None:
    ours.encode(
        ["a"],
        timeout=2.5,
        pooling_strategy="CLS_TOKEN",
        pooling_layer=[-1, -2],
        normalize=True,
        truncate="left",
        dtype="float16",
        show_offsets=True,
    )
    assert server.headers == [
        {
            "timeout": 2.5,
            "pooling_strategy": "CLS_TOKEN",
            "pooling_layer": [-1, -2],
            "normalize": True,
            "truncate": "left",
            "dtype": "float16",
            "tokens": True,
            "offsets": True,
        }
    ]


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({}, {}),
        ({"pooling_layer": -2}, {"pooling_layer": [-2]}),
        ({"pooling_layer": range(-2, 0)}, {"pooling_layer": [-2, -1]}),
        ({"pooling_layer": (np.int64(-2),)}, {"pooling_layer": [-2]}),
        ({"timeout": np.float32(2.5)}, {"timeout": 2.5}),
        ({"normalize": False}, {"normalize": False}),
        ({"truncate": False}, {"truncate": False}),
        ({"show_tokens": True}, {"tokens": True}),
        ({"show_progress": True}, {"stream": True}),
        ({"details": True}, {}),
        ({"user": "somebody"}, {"user": "somebody"}),
        ({"timeout": float("inf")}, {}),
        ({"timeout": 1e12}, {"timeout": 1e9}),
        ({"timeout": 10**400}, {"timeout": 1e9}),
    ],
)
def test_header(server: Any, connect: Any, options: Any, header: Any) -> None:
    connect(server, timeout=-1).encode(["a"], **options)
    assert server.headers == [header]


def test_timeout_of_a_call_is_before_the_client_s(server: Any, ours: Any, hold: Any) -> None:
    ours.encode(["a"], timeout=float("inf"))
    server.script.texts = hold(9)
    with pytest.raises(RequestTimeout, match="50 ms"):
        ours.encode(["a"], timeout=0.05)
    server.wait_for(2)
    assert server.headers == [{}, {"timeout": 0.05}]


def test_options_of_non_blocking_calls(server: Any, ours: Any) -> None:
    ours.encode(["a b"], blocking=False, show_offsets=True, dtype="float16", timeout=60)
    ours.encode(pairs=PAIRS, blocking=False)
    first, second = sorted(ours.fetch())
    assert (first.tokens, first.offsets) == ([["a", "b"]], [[[0, 1], [2, 3]]])
    assert first.embedding.dtype == np.float16
    assert second.embedding.shape == (2, 2)
    assert server.headers[0]["timeout"] == 60


def test_options_of_encode_async(server: Any, ours: Any, vectors: Any) -> None:
    (response,) = ours.encode_async([["a b"]], dtype="float16", show_offsets=True, timeout=9)
    assert response.offsets == [[[0, 1], [2, 3]]]
    assert response.embedding.dtype == np.float16
    (response,) = ours.encode_async([PAIRS], pairs=True)
    np.testing.assert_array_equal(response.embedding, vectors([["a b", "c"], ["d", "e"]]))
    assert server.headers[1] == {"pairs": True}


@pytest.mark.parametrize("checks", [True, False])
def test_partial_results_in_the_background(
    server: Any, connect: Any, vectors: Any, checks: bool
) -> None:
    """What failed is always told there, so that details needn't be asked for."""

    def texts(request: Any) -> Any:
        details = Details(2, failed={0: "died"})
        array = vectors(["a", "b"]) * [[0], [1]]
        return [
            vectors_frames(
                request.identity, request.request_id, array.astype(np.float32), None, details
            )
        ]

    server.script.texts = texts
    client = connect(server, ignore_all_checks=not checks)
    client.encode(["a", "b"], blocking=False, partial=True, user="me")
    responses = [*client.fetch(), *client.encode_async([["a", "b"]], partial=True, user="me")]
    assert [response.failed for response in responses] == [{0: "died"}] * 2
    assert server.headers == [{"partial": True, "user": "me"}] * 2


def test_encode_async_has_the_arguments_of_encode() -> None:
    """But those that go without saying, and the names of 1.10."""
    encode, background = (
        set(inspect.signature(method).parameters)
        for method in (BertClient.encode, BertClient.encode_async)
    )
    assert encode - background == {"texts", "blocking", "details", "stream", "show_progress"}
    assert background - encode == {"batch_generator", "max_num_batch", "delay"}


BAD = [
    ({}, TypeError, "either texts or pairs"),
    ({"texts": ["a"], "pairs": PAIRS}, TypeError, "either texts or pairs"),
    ({"pairs": "ab"}, TypeError, "pairs must be a list, but is str"),
    ({"pairs": PAIRS, "is_tokenized": True}, ValueError, "is_tokenized=True is for texts"),
    ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds, but is 0"),
    ({"timeout": float("nan")}, ValueError, "timeout must be more than 0"),
    ({"timeout": "1"}, TypeError, "timeout must be seconds, but is '1'"),
    ({"timeout": True}, TypeError, "timeout must be seconds"),
    ({"pooling_strategy": 2}, TypeError, "pooling_strategy must be a strategy's name, but is 2"),
    ({"pooling_strategy": ""}, ValueError, "pooling_strategy is empty"),
    ({"pooling_layer": "-2"}, TypeError, "pooling_layer must be a layer's number .* has '-2'"),
    ({"pooling_layer": [1.5]}, TypeError, "pooling_layer must .* has 1.5"),
    ({"pooling_layer": []}, ValueError, r"pooling_layer must name 1 to 1000 .* is \[\]"),
    ({"pooling_layer": 1001}, ValueError, "pooling_layer must name .* is 1001"),
    ({"normalize": 1}, TypeError, "normalize must be True, False or None, not 1"),
    ({"truncate": True}, ValueError, 'truncate must be "right", "left" or False, not True'),
    ({"truncate": 0}, ValueError, "truncate must be"),
    ({"dtype": "int8"}, ValueError, "dtype must be float32 or float16, not 'int8'"),
    ({"dtype": np.float16}, ValueError, "dtype must be float32 or float16"),
    ({"texts": [["a"]], "is_tokenized": True, "show_offsets": True}, ValueError, "is_tokenized"),
    ({"partial": True}, ValueError, "name details=True"),
    ({"user": 7}, TypeError, "user must be a string or None, not 7"),
    ({"user": ""}, ValueError, "user must have 1 to 200 characters, but has 0"),
    ({"user": "x" * 201}, ValueError, "user must have 1 to 200 characters, but has 201"),
    ({"stream": True, "blocking": False}, ValueError, "leave blocking=False out"),
    ({"show_progress": True, "blocking": False}, ValueError, "leave blocking=False out"),
    ({"show_progress": True, "stream": True}, ValueError, "leave one out"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments(server: Any, ours: Any, arguments: Any, error: type, message: str) -> None:
    if arguments and not {"texts", "pairs"} & set(arguments):
        arguments = dict(arguments, texts=["a"])
    with pytest.raises(error, match=message):
        ours.encode(**arguments)
    assert server.headers == []


# ------------------------------------------------------------------------------ what comes


def test_tokens_come_when_asked_for(ours: Any, vectors: Any) -> None:
    assert ours.token_info_available is False  # of the server's flag, which is for 1.10's clients
    array, tokens = ours.encode(["a b", "c"], show_tokens=True)
    np.testing.assert_array_equal(array, vectors(["a b", "c"]))
    assert tokens == [["a", "b"], ["c"]]
    array, tokens, offsets = ours.encode(["a b", "c"], show_offsets=True)
    assert tokens == [["a", "b"], ["c"]]
    assert offsets == [[[0, 1], [2, 3]], [[0, 1]]]


def test_details(ours: Any, vectors: Any) -> None:
    response = ours.encode(["a b", "c"], details=True)
    assert isinstance(response, Response)
    assert response.id == 2
    np.testing.assert_array_equal(response.embedding, vectors(["a b", "c"]))
    assert (response.tokens, response.offsets, response.truncated) == ("", None, ())
    assert response.num_tokens == 3
    assert response.timings._asdict() == {
        "tokenize": 0.25,
        "queue": 0.5,
        "compute": 0.75,
        "total": 1.5,
    }
    assert response.model == ours.server_config["model_fingerprint"]


def test_pairs(server: Any, ours: Any, vectors: Any) -> None:
    np.testing.assert_array_equal(ours.encode(pairs=PAIRS), vectors([["a b", "c"], ["d", "e"]]))
    assert server.texts == [[["a b", "c"], ["d", "e"]]]
    assert server.headers[0]["pairs"] is True


def test_too_long(ours: Any) -> None:
    ours.encode(["a"], truncate=False)
    with pytest.raises(TextTooLong, match=r"texts\[1\]"):
        ours.encode(["a", LONG], truncate=False)


def test_overloaded(server: Any, ours: Any) -> None:
    server.script.texts = lambda request: [
        error_frames(request.identity, request.request_id, ErrorKind.OVERLOADED, "busy", 1.5)
    ]
    with pytest.raises(Overloaded, match="busy") as caught:
        ours.encode(["a"])
    assert caught.value.retry_after == 1.5


# ------------------------------------------------------------------------------- truncation


def blocking(client: Any) -> None:
    client.encode(["a", LONG])


def fetched(client: Any) -> None:
    client.encode(["a", LONG], blocking=False)
    list(client.fetch())


def fetched_at_once(client: Any) -> None:
    client.encode(["a", LONG], blocking=False)
    client.fetch_all()


def batch(client: Any) -> None:
    list(client.encode_async([["a", LONG]]))


def streamed(client: Any) -> None:
    list(client.encode(["a", LONG], stream=True))


def with_progress(client: Any) -> None:
    client.encode(["a", LONG], show_progress=True)


CALLERS = [blocking, fetched, fetched_at_once, batch, streamed, with_progress]


@pytest.mark.parametrize("call", CALLERS)
def test_warns_of_what_the_server_cut(ours: Any, call: Any) -> None:
    with pytest.warns(UserWarning, match=r"1 of the texts, in row 1, .* \(25\) and") as caught:
        call(ours)
    assert caught[0].filename == __file__
    assert len(caught) == 1


def test_says_what_was_cut(ours: Any) -> None:
    with pytest.warns(UserWarning, match="in row 0, 2"):
        assert ours.encode([LONG, "a", LONG], details=True).truncated == (0, 2)


@pytest.mark.parametrize("call", CALLERS)
def test_truncation_is_not_warned_of_unless_checked(server: Any, connect: Any, call: Any) -> None:
    call(connect(server, check_length=False))


def test_words_are_not_counted_for_our_server(server: Any, connect: Any) -> None:
    server.script.config["max_seq_len"] = None
    client = connect(server)
    assert client.length_limit is None
    client.encode(["a b"])


# ---------------------------------------------------------------------------------- streams


def test_stream(server: Any, ours: Any, vectors: Any) -> None:
    texts = ["text %d" % number for number in range(5)]
    array = np.zeros((5, 2))
    seen = []
    for rows, vectors_of_rows in ours.encode(texts, stream=True):
        assert rows.dtype == np.int64
        array[rows] = vectors_of_rows
        seen.append(rows.tolist())
    np.testing.assert_array_equal(array, vectors(texts))
    assert seen == [[0, 1], [2, 3], [4]]
    assert server.cancelled == []
    assert ours.pending_request == set()


def test_stream_of_more(ours: Any) -> None:
    _, _, tokens = next(ours.encode(["a b"], stream=True, show_tokens=True))
    assert tokens == [["a", "b"]]
    _, _, tokens, offsets = next(ours.encode(["a b"], stream=True, show_offsets=True))
    assert (tokens, offsets) == ([["a", "b"]], [[[0, 1], [2, 3]]])
    rows, response = next(ours.encode(["a b"], stream=True, show_offsets=True, details=True))
    assert rows.tolist() == [0]
    assert isinstance(response, Response)
    assert response.offsets == offsets


def test_stream_of_lists(server: Any, connect: Any) -> None:
    parts = list(connect(server, output_fmt="list").encode(["a", "b", "c"], stream=True))
    assert parts == [([0, 1], [[1.0, 97.0], [1.0, 98.0]]), ([2], [[1.0, 99.0]])]


@pytest.mark.parametrize("how", ["close", "with", "forget", "not begun"])
def test_a_stream_closed_early_is_cancelled(server: Any, ours: Any, parts: Any, how: str) -> None:
    server.script.texts = lambda request: parts(request)[:1]
    stream = ours.encode(["a", "b", "c"], stream=True)
    if how != "not begun":
        next(stream)
    if how == "with":
        with stream:
            pass
    elif how == "close":
        stream.close()
        stream.close()
        assert list(stream) == []
    else:
        del stream
        gc.collect()
    server.wait_until(lambda: server.cancelled == [2])
    assert ours.pending_request == set()


def noticed(monkeypatch: Any, owner: Any, name: str) -> threading.Event:
    """Set once the method ``name`` of ``owner`` is called."""
    original, event = getattr(owner, name), threading.Event()

    def called(*args: Any) -> Any:
        event.set()
        return original(*args)

    monkeypatch.setattr(owner, name, called)
    return event


@pytest.mark.parametrize("behind", [False, True], ids=["at the socket", "behind another"])
def test_a_stream_that_another_thread_closes(
    server: Any, connect: Any, answer: Any, in_thread: Any, monkeypatch: Any, behind: bool
) -> None:
    """It is at its end for the thread that waits in it; the client goes on."""
    held: List[Any] = []

    def texts(request: Any) -> Any:
        if request.rows == 1:
            held.append(answer(request))
        return held if b"go" in request.payload else []

    server.script.texts = texts
    client = connect(server, timeout=-1)
    at_socket = noticed(monkeypatch, client._exchange._connection, "receive")
    other = in_thread(client.encode, ["other"]) if behind else None
    if behind:
        assert at_socket.wait(10)
    waits = noticed(monkeypatch, client._exchange._changed, "wait") if behind else at_socket
    stream = client.encode(["a", "b", "c"], stream=True)
    reader = in_thread(list, stream)
    assert waits.wait(10)
    stream.close()
    assert reader() == []
    assert client.encode(["go"]).shape == (1, 2)
    if other is not None:
        assert other().shape == (1, 2)


def test_a_stream_that_fails(server: Any, ours: Any, parts: Any) -> None:
    server.script.texts = lambda request: [
        parts(request)[0],
        error_frames(request.identity, request.request_id, ErrorKind.WORKER_FAILED, "died"),
    ]
    stream = ours.encode(["a", "b", "c"], stream=True)
    assert next(stream)[0].tolist() == [0, 1]
    with pytest.raises(WorkerFailed, match="died"):
        next(stream)
    assert list(stream) == []


def test_a_stream_that_takes_too_long(server: Any, ours: Any, parts: Any) -> None:
    server.script.texts = lambda request: parts(request)[:1]
    stream = ours.encode(["a", "b", "c"], stream=True, timeout=2.0)
    next(stream)
    with pytest.raises(RequestTimeout):
        next(stream)
    server.wait_until(lambda: server.cancelled == [2])


def test_streams_of_several_threads(ours: Any, in_thread: Any, vectors: Any) -> None:
    def work(name: int) -> None:
        for number in range(10):
            texts = ["%d of %d in %d" % (row, number, name) for row in range(7)]
            for rows, array in ours.encode(texts, stream=True):
                np.testing.assert_array_equal(array, vectors([texts[row] for row in rows]))

    for result in [in_thread(work, name) for name in range(4)]:
        result()
    assert ours.dropped_replies == 0


# --------------------------------------------------------------------------------- progress


def test_progress(ours: Any, vectors: Any, capsys: Any) -> None:
    texts = ["text %d" % number for number in range(5)]
    result = ours.encode(texts, show_progress=True)
    np.testing.assert_array_equal(result, vectors(texts))
    assert not result.flags.writeable
    assert "5/5" in capsys.readouterr().err
    response = ours.encode(["a b", "c", "d"], show_progress=True, show_offsets=True, details=True)
    assert response.tokens == [["a", "b"], ["c"], ["d"]]
    assert response.offsets == [[[0, 1], [2, 3]], [[0, 1]], [[0, 1]]]
    assert response.num_tokens == 4


def test_progress_of_a_call_that_fails(server: Any, ours: Any, parts: Any, capsys: Any) -> None:
    server.script.texts = lambda request: [
        parts(request)[0],
        error_frames(request.identity, request.request_id, ErrorKind.INTERNAL, "bug"),
    ]
    with pytest.raises(Exception, match="bug"):
        ours.encode(["a", "b", "c"], show_progress=True)
    assert capsys.readouterr().err.endswith("\n")  # the bar is closed


def test_progress_needs_tqdm(server: Any, ours: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        ours.encode(["a"], show_progress=True)
    assert ours.pending_request == set()


# ---------------------------------------------------------------------------- cancellation


def test_a_timeout_cancels(server: Any, ours: Any, hold: Any) -> None:
    server.script.texts = hold(9)
    with pytest.raises(RequestTimeout):
        ours.encode(["a"], timeout=0.05)
    server.wait_until(lambda: server.cancelled == [2])


def test_an_interrupt_cancels(server: Any, ours: Any, hold: Any, monkeypatch: Any) -> None:
    server.script.texts = hold(9)

    def interrupt(seconds: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ours._exchange._connection, "receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ours.encode(["a"])
    server.wait_until(lambda: server.cancelled == [2])
    assert ours.pending_request == set()


def test_encode_async_closed_early_cancels(server: Any, ours: Any, hold: Any, answer: Any) -> None:
    server.script.texts = lambda request: [answer(request)] if request.request_id == 2 else []
    responses = ours.encode_async([["a"], ["b"], ["c"]])
    next(responses)
    server.wait_for(3)
    responses.close()
    server.wait_until(lambda: server.cancelled == [3, 4])


def test_1_10_is_not_told(old_server: Any, old: Any, hold: Any) -> None:
    old_server.script.texts = hold(2)
    with pytest.raises(RequestTimeout):
        old.encode(["a"], timeout=0.05)
    old.encode(["b"])
    assert old_server.cancelled == []


# ------------------------------------------------------------------------- servers of 1.10


def test_what_a_1_10_server_is_asked(old_server: Any, old: Any, vectors: Any) -> None:
    array = old.encode(["a b"], normalize=True)
    expected = vectors(["a b"])
    np.testing.assert_allclose(array, expected / np.linalg.norm(expected), rtol=1e-6)
    assert array.dtype == np.float32
    assert not array.flags.writeable
    assert old.encode(["a"], dtype="float16").dtype == np.float16
    old.encode(["a"], normalize=False, pooling_strategy="REDUCE_MEAN", pooling_layer=-2)
    ((rows, array),) = old.encode(["a", "b"], stream=True)
    assert rows.tolist() == [0, 1]
    np.testing.assert_array_equal(array, vectors(["a", "b"]))
    np.testing.assert_array_equal(old.encode(["a"], show_progress=True), vectors(["a"]))
    response = old.encode(["a"], details=True)
    assert response[2:] == ("", None, (), None, None, {}, None)
    old.encode(["a"], blocking=False, dtype="float16")
    assert next(old.fetch()).embedding.dtype == np.float16
    assert set(map(len, old_server.requests)) == {4}


def test_pairs_of_a_1_10_server(old_server: Any, old: Any) -> None:
    old.encode(pairs=PAIRS)
    old.encode(pairs=[("a\nb", "c|||d")])
    assert old_server.texts == [JOINED, ["a b ||| c|||d"]]
    for pair in (("a ||| b", "c"), ("a", "||| c"), ("a |||", "c"), ("a", "b\n|||\nc")):
        with pytest.raises(NotSupported, match=r"pairs\[1\]"):
            old.encode(pairs=[("a", "b"), pair])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate": "left"}, "truncate='left'; it cuts on the right"),
        ({"truncate": False}, "truncate=False"),
        ({"show_offsets": True}, "leave show_offsets out"),
        ({"pooling_layer": [-1, -2]}, r"layers \[-1, -2\] on request; its own are \[-2\]"),
        ({"pooling_strategy": "NONE"}, "pooling_strategy='NONE' .* its own is REDUCE_MEAN"),
    ],
)
@pytest.mark.parametrize("checks", [True, False])
def test_what_1_10_can_not(
    old_server: Any, connect: Any, checks: bool, options: Any, message: str
) -> None:
    client = connect(old_server, ignore_all_checks=not checks)
    with pytest.raises(NotSupported, match=message) as caught:
        client.encode(["a"], **options)
    assert isinstance(caught.value, ValueError)
    assert "1.10" in str(caught.value)
    assert old_server.texts == []


@pytest.mark.parametrize(
    ("number", "name"), [(4, "CLS_TOKEN"), (4, "FIRST_TOKEN"), (5, "SEP_TOKEN"), (0, "NONE")]
)
def test_1_10_s_own_pooling_by_any_name(
    old_server: Any, connect: Any, number: int, name: str
) -> None:
    old_server.script.config["pooling_strategy"] = number
    client = connect(old_server)
    client.encode(["a"], pooling_strategy=name)
    if name == "NONE":
        with pytest.raises(NotSupported, match="normalize"):
            client.encode(["a"], normalize=True)


# ------------------------------------------------------- a server that nothing is known of


def test_the_server_is_asked_once_and_only_if_it_matters(server: Any, connect: Any) -> None:
    client = connect(server, ignore_all_checks=True)
    client.encode(["a"])
    client.encode(["a"], blocking=False, timeout=5)
    client.fetch_all()
    assert [len(frames) for frames in server.requests] == [4, 4]
    assert client.encode(["a"], dtype="float16").dtype == np.float16
    client.encode(["a"])
    commands = [frames[1] for frames in server.requests if len(frames) == 4]
    assert commands[2:] == [b"SHOW_CONFIG"]
    assert server.headers[2]["dtype"] == "float16"
    assert "dtype" not in server.headers[3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.encode([LONG])


def test_its_answer_is_waited_for_within_the_call_s_time(
    make_server: Any, connect: Any, monkeypatch: Any
) -> None:
    server = make_server()
    client = connect(server, ignore_all_checks=True)
    client.encode(["a"], details=True, timeout=10)
    assert 0 < server.headers[0]["timeout"] <= 10


@pytest.mark.parametrize(
    ("client_ms", "seconds", "blocking"),
    [(-1, None, True), (1, float("inf"), True), (-1, None, False)],
)
def test_its_answer_is_waited_for_as_long_as_it_takes(
    server: Any,
    connect: Any,
    in_thread: Any,
    monkeypatch: Any,
    client_ms: int,
    seconds: Any,
    blocking: bool,
) -> None:
    """The limit of connecting is none of a call's."""
    monkeypatch.setattr("bert_serving.client.base.CONNECT_TIMEOUT_MS", 1)
    server.script.answers_commands = False
    client = connect(server, ignore_all_checks=True, timeout=client_ms)
    asked = in_thread(client.encode, ["a"], blocking, dtype="float16", timeout=seconds)
    server.wait_until(lambda: server.requests)
    server.kill()  # what was asked is asked again when there is a server
    server.script.answers_commands = True
    server.start()
    result = asked() if blocking else [asked(), *client.fetch_all()][1]
    assert result.dtype == np.float16


@pytest.mark.parametrize("blocking", [True, False])
def test_its_answer_is_waited_for_within_the_client_s_time(
    server: Any, connect: Any, blocking: bool
) -> None:
    server.script.answers_commands = False
    client = connect(server, ignore_all_checks=True, timeout=50)
    with pytest.raises(RequestTimeout, match="50 ms"):
        client.encode(["a"], blocking, dtype="float16")


def test_whether_it_sends_tokens_is_learned(make_server: Any, connect: Any, answer: Any) -> None:
    for config in ({"show_tokens_to_client": True}, {"show_tokens_to_client": False}, {}):
        server = make_server(config=config, is_1_10=True)
        server.script.texts = lambda request: [answer(request, b'[["a"]]')]
        client = connect(server, ignore_all_checks=True)
        if config.get("show_tokens_to_client"):
            assert client.encode(["a"], show_tokens=True)[1] == [["a"]]
            continue
        with pytest.warns(UserWarning, match="show_tokens_to_client"):
            assert client.encode(["a"], show_tokens=True).shape == (1, 2)
