"""BertClient's blocking calls against a server on real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import zmq
from support import free_ports

from bert_serving.client import (
    BadRequest,
    BertClient,
    ClientClosed,
    ConnectionFailed,
    DeadlineExceeded,
    InternalError,
    ProtocolError,
    RequestTimeout,
    ServerError,
    ShuttingDown,
    VersionMismatch,
    WorkerFailed,
    __version__,
)
from bert_serving.client.protocol import ErrorKind, topic_of
from bert_serving.client.reply_frames import error_frames, info_frames


@pytest.fixture(params=["ours", "1.10"])
def either_server(request: Any, make_server: Any) -> Any:
    return make_server(is_1_10=request.param == "1.10")


# ------------------------------------------------------------------------------ constructor


def test_arguments_in_the_order_of_1_10(server: Any) -> None:
    with BertClient(
        "127.0.0.1", server.port, server.port_out, "list", False, b"me", True, True, True, True, 500
    ) as client:
        assert (client.ip, client.port, client.port_out) == (
            "127.0.0.1",
            server.port,
            server.port_out,
        )
        assert client.output_fmt == "list"
        assert client.identity == b"me"
        assert client.timeout == 500
        assert client.length_limit == 0
        assert client.token_info_available is False
    assert server.requests == []  # ignore_all_checks


def test_learns_from_the_configuration(either_server: Any, connect: Any) -> None:
    either_server.script.config.update(max_seq_len=7, show_tokens_to_client=True)
    client = connect(either_server)
    assert client.length_limit == 7
    assert client.token_info_available is True
    assert len(either_server.requests[0]) == 4


def test_checks_can_be_left_out(server: Any, connect: Any) -> None:
    client = connect(server, check_length=False, check_token_info=False)
    assert (client.length_limit, client.token_info_available) == (0, False)
    connect(server, check_length=False, check_token_info=False, check_version=False)
    server.wait_for(0)
    assert len(server.requests) == 1


def test_version_mismatch(make_server: Any, connect: Any) -> None:
    old = make_server(config={"server_version": "1.9.0", "max_seq_len": 5})
    with pytest.raises(VersionMismatch, match=r"1\.9\.0"):
        connect(old)
    with pytest.raises(AttributeError):
        connect(old)
    connect(old, check_version=False, check_length=False, check_token_info=False)


def test_configuration_that_lacks_something(make_server: Any, connect: Any) -> None:
    with pytest.raises(ProtocolError, match="max_seq_len"):
        connect(make_server(config={"server_version": "1.10.0"}))


def test_shows_the_configuration(server: Any, connect: Any, capsys: Any) -> None:
    connect(server, show_server_config=True)
    printed = capsys.readouterr().out
    assert "max_seq_len = 25" in printed
    connect(server)
    assert capsys.readouterr().out == ""


def test_no_server() -> None:
    port, port_out = free_ports()
    with pytest.raises(TimeoutError) as caught:
        BertClient("127.0.0.1", port, port_out, timeout=200)
    assert type(caught.value) is RequestTimeout
    for part in ("127.0.0.1", str(port), str(port_out), "200 ms"):
        assert part in str(caught.value)


def test_no_server_and_no_timeout(monkeypatch: Any) -> None:
    monkeypatch.setattr("bert_serving.client.base.CONNECT_TIMEOUT_MS", 100)
    port, port_out = free_ports()
    with pytest.raises(RequestTimeout, match="100 ms"):
        BertClient("127.0.0.1", port, port_out)


def test_bad_arguments() -> None:
    with pytest.raises(AttributeError, match="'numpy'"):
        BertClient(output_fmt="numpy", ignore_all_checks=True)
    with pytest.raises(ValueError, match="identity"):
        BertClient(identity=b"a\0b", ignore_all_checks=True)
    with pytest.raises(ConnectionFailed, match="no such host"):
        BertClient("no such host", ignore_all_checks=True)
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="port_out must be"):
            BertClient(port_out=port, ignore_all_checks=True)


def test_identity(server: Any, connect: Any) -> None:
    assert connect(server, identity="ä").identity == "ä".encode()
    assert server.requests[0][0] == "ä".encode()
    assert len(connect(server).identity) == 36


def test_ipv6(make_server: Any, connect: Any, vectors: Any) -> None:
    try:
        server = make_server(host="::1")
    except zmq.ZMQError:
        pytest.skip("this machine has no IPv6")
    for ip in ("::1", "[::1]"):
        client = connect(server, ip=ip)
        np.testing.assert_array_equal(client.encode(["a"]), vectors(["a"]))


# ----------------------------------------------------------------------------------- encode


def test_encode(either_server: Any, connect: Any, vectors: Any) -> None:
    client = connect(either_server)
    texts = ["First do it", "then do it right", "ñandú 😀"]
    result = client.encode(texts)
    np.testing.assert_array_equal(result, vectors(texts))
    assert result.dtype == np.float32
    assert not result.flags.writeable
    assert result.flags.aligned
    assert either_server.texts == [texts]
    assert either_server.requests[-1][3] == b"3"


def test_encode_tokenized(either_server: Any, connect: Any, vectors: Any) -> None:
    texts = [["do", "it"], ["right"]]
    result = connect(either_server).encode(texts, is_tokenized=True)
    np.testing.assert_array_equal(result, vectors(texts))
    assert either_server.texts == [texts]


def test_encode_without_checks(either_server: Any, connect: Any, vectors: Any) -> None:
    client = connect(either_server, ignore_all_checks=True)
    np.testing.assert_array_equal(client.encode(["a"]), vectors(["a"]))
    assert [len(frames) for frames in either_server.requests] == [4]


def test_encode_list(server: Any, connect: Any) -> None:
    assert connect(server, output_fmt="list").encode(["a"]) == [[1.0, 97.0]]


def test_large_result_is_not_copied(server: Any, connect: Any) -> None:
    texts = ["text %d" % number for number in range(20_000)]
    result = connect(server).encode(texts)
    assert result.shape == (20_000, 2)
    assert result.base is not None
    assert result.flags.aligned


@pytest.mark.parametrize(
    ("texts", "error"), [("a", TypeError), ([], ValueError), ([""], ValueError)]
)
def test_bad_texts_are_not_sent(server: Any, connect: Any, texts: Any, error: type) -> None:
    client = connect(server)
    with pytest.raises(error):
        client.encode(texts)
    with pytest.raises(error):
        client.encode(texts, blocking=False)
    assert client.request_id == 1
    assert client.pending_request == set()


def test_deadline_is_sent_to_our_server_only(make_server: Any, connect: Any) -> None:
    ours, old = make_server(), make_server(is_1_10=True)
    connect(ours, timeout=2500).encode(["a"])
    connect(ours, timeout=-1).encode(["a"])
    connect(old, timeout=2500).encode(["a"])
    assert ours.headers == [{"timeout": 2.5}, {}]
    assert old.headers == [None]


def test_non_blocking_sends_no_deadline(server: Any, connect: Any) -> None:
    client = connect(server, timeout=2500)
    assert client.encode(["a"], blocking=False) is None
    client.fetch_all()
    assert server.headers == [{}]


def test_show_tokens(either_server: Any, connect: Any, answer: Any, vectors: Any) -> None:
    either_server.script.config["show_tokens_to_client"] = True
    either_server.script.texts = lambda request: [answer(request, b'[["[CLS]","a"]]')]
    client = connect(either_server)
    vector, tokens = client.encode(["a"], show_tokens=True)
    np.testing.assert_array_equal(vector, vectors(["a"]))
    assert tokens == [["[CLS]", "a"]]
    assert isinstance(client.encode(["a"]), np.ndarray)


def test_warns_if_tokens_are_not_there(make_server: Any, connect: Any) -> None:
    client = connect(make_server(is_1_10=True))
    with pytest.warns(UserWarning, match="show_tokens_to_client") as caught:
        result = client.encode(["a"], show_tokens=True)
    assert isinstance(result, np.ndarray)
    assert caught[0].filename == __file__


def test_warns_of_lengths_that_1_10_does_not_tell(make_server: Any, connect: Any) -> None:
    server = make_server(is_1_10=True)
    server.script.config["max_seq_len"] = 2
    client = connect(server)
    client.encode(["a b"])
    with pytest.warns(UserWarning, match="max_seq_len=2") as caught:
        client.encode(["a b c"])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="max_seq_len=2"):
        client.encode([["a", "b", "c"]], is_tokenized=True)
    connect(server, check_length=False).encode(["a b c"])
    server.script.config["max_seq_len"] = None
    unlimited = connect(server)
    assert unlimited.length_limit is None
    with pytest.warns(UserWarning, match="no max_seq_len"):
        unlimited.encode(["a"])


# ----------------------------------------------------------------------------------- status


def test_server_config_and_status(either_server: Any, connect: Any) -> None:
    client = connect(either_server)
    assert client.server_config == dict(either_server.script.config, asked="SHOW_CONFIG")
    assert client.server_status["asked"] == "SHOW_STATUS"
    assert client.pending_request == set()


def test_status(server: Any, connect: Any, hold: Any) -> None:
    server.script.texts = hold(2)
    client = connect(server, identity=b"me", timeout=9000)
    client.encode(["a"], blocking=False)
    assert client.status == {
        "identity": b"me",
        "num_request": 2,
        "num_pending_request": 1,
        "pending_request": {2},
        "output_fmt": "ndarray",
        "port": server.port,
        "port_out": server.port_out,
        "server_ip": "127.0.0.1",
        "client_version": __version__,
        "timeout": 9000,
    }


# ----------------------------------------------------------------------------------- errors

KINDS = [
    (ErrorKind.BAD_REQUEST, BadRequest),
    (ErrorKind.DEADLINE, DeadlineExceeded),
    (ErrorKind.SHUTTING_DOWN, ShuttingDown),
    (ErrorKind.WORKER_FAILED, WorkerFailed),
    (ErrorKind.INTERNAL, InternalError),
    ("newer", ServerError),
]


@pytest.mark.parametrize(("kind", "error"), KINDS)
def test_error_reply(server: Any, connect: Any, kind: str, error: type) -> None:
    client = connect(server)
    server.script.texts = lambda request: [
        error_frames(request.identity, request.request_id, kind, "what happened")
    ]
    with pytest.raises(error, match=r"^what happened$") as caught:
        client.encode(["a"])
    assert type(caught.value) is error
    assert isinstance(caught.value, ServerError)
    assert caught.value.kind == kind
    assert client.pending_request == set()


def test_unreadable_reply(server: Any, connect: Any, vectors: Any) -> None:
    client = connect(server)
    normal, bad = server.script.texts, b'{"dtype":"float32","shape":[9]}'
    server.script.texts = lambda request: [
        [topic_of(request.identity), bad, b"", b"%d" % request.request_id]
    ]
    with pytest.raises(ProtocolError, match="can't be read") as caught:
        client.encode(["a"])
    assert caught.value.__cause__ is not None
    server.script.texts = lambda request: [[topic_of(request.identity), b"{}", b"", b"no number"]]
    with pytest.raises(ProtocolError, match="request id"):
        client.encode(["a"])
    server.script.texts = lambda request: [info_frames(request.identity, request.request_id, b"{}")]
    with pytest.raises(ProtocolError, match="vectors"):
        client.encode(["a"])
    server.script.texts = normal
    np.testing.assert_array_equal(client.encode(["b"]), vectors(["b"]))


@pytest.mark.parametrize("info", [b"5", b"[]", b"null", b"{"])
def test_configuration_that_is_no_object(server: Any, connect: Any, info: bytes) -> None:
    client = connect(server)
    server.script.info = info
    with pytest.raises(ProtocolError):
        assert client.server_config


def test_timeout_and_its_late_reply(server: Any, connect: Any, hold: Any, vectors: Any) -> None:
    client = connect(server)
    client.timeout = 100
    server.script.texts = hold(2)  # with the second request come both replies, the late one first
    with pytest.raises(TimeoutError) as caught:
        client.encode(["late"])
    assert type(caught.value) is RequestTimeout
    for part in ("127.0.0.1", str(server.port), str(server.port_out), "100 ms"):
        assert part in str(caught.value)
    assert client.pending_request == set()
    client.timeout = 10_000
    np.testing.assert_array_equal(client.encode(["b"]), vectors(["b"]))
    assert client.dropped_replies == 1
    assert client.fetch_all() is None


def test_duplicate_unknown_and_foreign_replies(
    server: Any, connect: Any, answer: Any, vectors: Any
) -> None:
    client = connect(server, identity=b"client-1")

    def texts(request: Any) -> Any:
        reply = answer(request)
        unknown = [*reply[:3], b"999"]
        # A 1.10 server sends what is for client-10 to those who subscribe to client-1 as well.
        foreign = [b"client-10", reply[1], b"\0" * len(bytes(reply[2])), reply[3]]
        return [unknown, foreign, reply, reply]

    server.script.texts = texts
    for text in ("a", "b", "c"):
        np.testing.assert_array_equal(client.encode([text]), vectors([text]))
    assert client.dropped_replies >= 8
    assert client.pending_request == set()


# ------------------------------------------------------------------------------------ close


def test_close(server: Any, connect: Any) -> None:
    client = connect(server)
    client.close()
    client.close()
    for call in (
        lambda: client.encode(["a"]),
        lambda: client.encode(["a"], blocking=False),
        lambda: client.server_config,
        lambda: client.server_status,
        lambda: list(client.fetch()),
        lambda: client.fetch_all(),
        lambda: list(client.encode_async([["a"]])),
    ):
        with pytest.raises(ClientClosed):
            call()
    assert client.status["num_request"] == 1


def test_context_manager(server: Any, connect: Any) -> None:
    with connect(server) as client:
        client.encode(["a"])
    with pytest.raises(ClientClosed):
        client.encode(["a"])


def test_close_wakes_who_waits(server: Any, connect: Any, hold: Any, in_thread: Any) -> None:
    client = connect(server, timeout=-1)
    server.script.texts = hold(99)
    waiting = [in_thread(client.encode, ["text %d" % number]) for number in range(3)]
    server.wait_for(3)
    client.close()
    for result in waiting:
        with pytest.raises(ClientClosed):
            result()


FORK = """
import os, sys
from bert_serving.client import BertClient, ClientForked
client = BertClient(ignore_all_checks=True)
batches = client.encode_async([["a"]])
client.encode(["a"], blocking=False)
child = os.fork()
if child == 0:
    calls = [
        lambda: client.encode(["a"]),
        lambda: client.encode(["a"], blocking=False),
        lambda: client.server_config,
        lambda: next(client.fetch()),
        lambda: client.fetch_all(),
        lambda: next(batches),
    ]
    for call in calls:
        try:
            call()
        except ClientForked as error:
            assert str(os.getppid()) in str(error)
        else:
            os._exit(1)
    client.close()
    del client, batches
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert client.pending_request == {1}
client.close()
"""

NOT_CLOSED = """
from bert_serving.client import BertClient
client = BertClient(ignore_all_checks=True)
client.encode(["a"], blocking=False)
next_one = client.encode_async([["a"]])
"""


@pytest.mark.parametrize("script", [FORK, NOT_CLOSED], ids=["fork", "not closed"])
def test_in_its_own_process(script: str) -> None:
    if script is FORK and not hasattr(os, "fork"):
        pytest.skip("this system doesn't fork")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_leaves_no_socket(server: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with BertClient("127.0.0.1", server.port, server.port_out, timeout=10_000) as client:
                client.encode(["a"])
            del client
