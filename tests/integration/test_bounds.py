"""Clients that ask for more than there is memory for, and clients that don't read."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, Dict, List, Tuple

import numpy as np
import psutil
import pytest
from support import RawClient, client_of, running, wait_for

from bert_serving.client import BertClient

pytestmark = pytest.mark.slow

ECHO = ("-engine", "echo")
MB = 1_000_000


def process_of(name: str) -> psutil.Process:
    """The process of that name of the server that runs."""
    (found,) = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-2:] == ["bert_serving.server.process", name]
    ]
    return found


def statistic(client: BertClient) -> Dict[str, Any]:
    found: Dict[str, Any] = client.server_status["statistic"]
    return found


def reply_of(raw: RawClient) -> Tuple[int, str]:
    """The next reply as a 1.10 client takes it: its number, and the error that it raises, or ""."""
    _, info, content, number = raw.receive()
    values = json.loads(info)
    try:
        np.frombuffer(content, dtype=str(values["dtype"])).reshape(values["shape"])
    except (TypeError, ValueError) as error:
        return int(number), str(error)
    return int(number), ""


def ask(raw: RawClient, number: int, texts: List[Any]) -> None:
    """In protocol 1."""
    raw.send(raw.identity, json.dumps(texts).encode("ascii"), b"%d" % number, b"%d" % len(texts))


def test_who_never_reads_takes_bounded_memory_and_hears_of_it_in_the_end() -> None:
    """3 GB of replies: the sink keeps some of them, and errors in place of the others."""
    rounds, requests, rows = 50, 20, 1000
    with running(*ECHO, "-max_reply_mb", "200") as server, client_of(server) as other:
        sink = process_of("sink")
        other.encode(["warm up"])
        before, peak = sink.memory_info().rss, 0
        with RawClient(server, receive_at_most=1) as greedy:
            for number in range(rounds * requests):
                ask(greedy, number, ["some text %d" % number] * rows)
                if number % requests == requests - 1:
                    wait_for(lambda: not statistic(other)["num_open_request"], "the computing")
                    assert other.encode(["quick"]).shape == (1, 768)
                    peak = max(peak, sink.memory_info().rss)
            assert statistic(other)["num_expired_reply"] > 0
            # Half of -max_reply_mb waits for one client, ZeroMQ has up to 64 MB of it, and what is
            # being assembled or freed is not at rest.
            assert peak - before < 350 * MB
            replies = dict(reply_of(greedy) for _ in range(rounds * requests))
            assert greedy.receiver.poll(0) == 0, "a request was answered twice"
        assert set(replies) == set(range(rounds * requests))
        errors = [error for error in replies.values() if error]
        assert 0 < len(errors) < len(replies)
        assert all("overloaded" in error for error in errors)
        assert other.encode(["quick"]).shape == (1, 768)


def test_a_stream_that_nobody_reads_ends_in_an_error() -> None:
    rows = 100_000
    with ExitStack() as stack:
        server = stack.enter_context(running(*ECHO, "-max_reply_mb", "100"))
        other = stack.enter_context(client_of(server))
        with RawClient(server, receive_at_most=1) as greedy:
            payload = json.dumps(["some text %d" % row for row in range(rows)]).encode("ascii")
            header = b'{"stream": true}'
            greedy.send(greedy.identity, payload, b"7", b"%d" % rows, header)
            wait_for(lambda: statistic(other)["num_expired_reply"], "the stream to be given up")
            wait_for(lambda: not statistic(other)["num_open_request"], "its work to be dropped")
            seen = 0
            while True:
                _, info, _, number = greedy.receive()
                values = json.loads(info)
                assert number == b"7"
                if "error" in values:
                    break
                assert not values["last"]
                seen += len(values["rows"])
            assert values["error"]["kind"] == "overloaded"
            assert 0 < seen < rows
            # The connection is as good as new.
            ask(greedy, 8, ["again"])
            assert reply_of(greedy) == (8, "")


@pytest.mark.usefixtures("unhurried")
def test_one_client_leaves_place_for_others() -> None:
    with running(*ECHO, "-max_queue_rows", "100") as server:
        worker = process_of("worker-0")
        worker.suspend()
        try:
            with RawClient(server) as greedy, RawClient(server) as modest:
                for number in range(10):
                    ask(greedy, number, ["text"] * 10)
                refused = dict(reply_of(greedy) for _ in range(5))
                assert set(refused) == set(range(5, 10))
                assert all("overloaded" in error for error in refused.values())
                ask(modest, 1, ["text"] * 50)
                worker.resume()
                assert reply_of(modest) == (1, "")
                assert {reply_of(greedy) for _ in range(5)} == {(n, "") for n in range(5)}
        finally:
            worker.resume()


@pytest.mark.usefixtures("unhurried")
def test_a_request_that_names_no_time_has_the_servers() -> None:
    with running(*ECHO, "-request_timeout", "1") as server, RawClient(server) as raw:
        worker = process_of("worker-0")
        worker.suspend()
        try:
            ask(raw, 1, ["late"])
            number, error = reply_of(raw)
        finally:
            worker.resume()
        assert number == 1
        assert "deadline" in error
        ask(raw, 2, ["soon"])
        assert reply_of(raw) == (2, "")


@pytest.mark.usefixtures("unhurried")
def test_what_is_open_at_the_end_gets_an_error() -> None:
    # Less time than it takes until the worker that stands still is missed and replaced.
    with running(*ECHO, "-drain_timeout", "1") as server:
        raw = RawClient(server)
        worker = process_of("worker-0")
        worker.suspend()
        ask(raw, 1, ["too late"])
        with client_of(server) as observer:
            wait_for(lambda: statistic(observer)["num_open_request"], "it to be accepted")
    with raw:
        number, error = reply_of(raw)
    assert number == 1
    assert "shutting_down" in error


@pytest.mark.usefixtures("unhurried")
def test_what_is_open_when_it_stops_at_once_gets_an_error() -> None:
    with running(*ECHO) as server:
        raw = RawClient(server)
        process_of("worker-0").suspend()
        ask(raw, 1, ["too late"])
        with client_of(server) as observer:
            wait_for(lambda: statistic(observer)["num_open_request"], "it to be accepted")
        server.stop(at_once=True)
    with raw:
        number, error = reply_of(raw)
    assert number == 1
    assert "shutting_down" in error


HOSTILE = {
    "nested lists": b"[" * 30 * MB,
    "empty lists": b"[" + b"[]," * 10 * MB + b"[]]",
    "tokens of one character": b"[[" + b'"a",' * MB + b'"a"]]',
    "numbers": b"[" + b"1," * 10 * MB + b"1]",
    "a text of different words": b'["%s \xc3\xa9"]' % b" ".join(b"%07d" % n for n in range(2 * MB)),
    "a text of separators": b'["%s\\nx"]' % (b" ||| " * 2 * MB),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_json_that_is_large_when_parsed(case: str) -> None:
    """It is answered, and takes no more than was allowed for it; so are texts that are large when
    they are tokenized.
    """
    with running(*ECHO, "-max_queue_mb", "200") as server, client_of(server) as other:
        ventilator = process_of("ventilator")
        other.encode(["warm up"])
        before = ventilator.memory_info().rss
        with RawClient(server) as raw:
            raw.send(raw.identity, HOSTILE[case], b"7", b"1")
            number, error = reply_of(raw)
        assert number == 7
        assert not error or "bad_request" in error
        assert other.encode(["still there"]).shape == (1, 768)
        # ZeroMQ's copy, ours and the parsed one.
        assert ventilator.memory_info().rss - before < 300 * MB
