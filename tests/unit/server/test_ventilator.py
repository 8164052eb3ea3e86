from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List, Sequence

import numpy as np
import pytest
import zmq
from support import PATIENCE
from unit.server.support import FakeLink, Hub, echo_spec, inproc, receive, running_role

from bert_serving.client.frames import encode_request, encode_texts
from bert_serving.client.options import Options
from bert_serving.client.protocol import Request
from bert_serving.server import authority, entrance, reception, work
from bert_serving.server import ventilator as module
from bert_serving.server.batch_messages import BatchMessage, Broken, Done, Ready
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.entrance import BURST
from bert_serving.server.intake import CHUNK_ROWS
from bert_serving.server.messages import decode
from bert_serving.server.pooling import Pooling
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Gone,
    Info,
    Registered,
    RequestFailed,
    RowLost,
    Waiting,
)
from bert_serving.server.stats import STAGES
from bert_serving.server.tokenization import Tokenizer
from bert_serving.server.ventilator import Ventilator
from bert_serving.server.wordpiece import MAX_WORD_CHARACTERS


class FakeWorker:
    """A worker's socket, and the sink's by which it tells what became of batches."""

    def __init__(self, hub: Hub, identity: bytes) -> None:
        self._socket = hub.socket(zmq.DEALER, identity)
        self._socket.connect(inproc().workers)
        self._events = hub.socket(zmq.PUSH)
        self._events.connect(inproc().events)
        self._name = identity.decode("ascii")

    def send(self, message: Any) -> None:
        self._socket.send_multipart(message.frames())

    def done(self, batch: BatchMessage) -> None:
        self._events.send_multipart(Done(((batch.batch_id, self._name),)).frames())

    def fail(self, batch: BatchMessage, message: str, out_of_memory: bool = False) -> None:
        broken = Broken(self._name, batch.batch_id, message, out_of_memory)
        self._events.send_multipart(broken.frames())

    def batch(self) -> BatchMessage:
        message = decode(receive(self._socket))
        assert isinstance(message, BatchMessage)
        return message

    @property
    def is_idle(self) -> bool:
        return not self._socket.poll(0)


class Bench:
    """A ventilator, and all that is around it: clients, workers, the sink, the supervisor."""

    def __init__(self, hub: Hub, link: FakeLink, *flags: str) -> None:
        self._hub = hub
        self.link = link
        endpoints = inproc()
        self._sink = hub.socket(zmq.PULL)
        self._sink.bind(endpoints.results)
        self.spec = echo_spec(*flags)
        self.ventilator = Ventilator(
            hub.context,
            self.spec,
            endpoints,
            link,  # type: ignore[arg-type]
            vocabulary(),
        )
        self._events = hub.socket(zmq.PUSH)
        self._events.connect(endpoints.events)
        self._requests = hub.socket(zmq.PUSH)
        self._requests.connect("tcp://127.0.0.1:%d" % self.spec.port)

    def worker(self, identity: bytes = b"worker-0.0", credits: int = 2) -> FakeWorker:
        """A worker that the ventilator knows."""
        worker = FakeWorker(self._hub, identity)
        worker.send(Ready(credits))
        return worker

    def send_frames(self, *frames: bytes) -> None:
        self._requests.send_multipart(frames)

    def request(
        self,
        texts: Sequence[Any],
        request_id: int = 1,
        client: bytes = b"me",
        **asked: Any,
    ) -> None:
        options = Options(**asked) if asked else None
        request = Request(client, encode_texts(list(texts)), request_id, len(texts), options)
        self.send_frames(*encode_request(request))

    def command(self, name: bytes) -> None:
        self.send_frames(b"me", name, b"99", b"0")

    def for_sink(self) -> Any:
        """The next message to the sink."""
        return decode(receive(self._sink))

    def status(self) -> Any:
        """What SHOW_STATUS tells; all that was sent before has been handled then."""
        self.command(b"SHOW_STATUS")
        info = self.for_sink()
        assert isinstance(info, Info)
        assert (info.client, info.request_id) == (b"me", 99)
        return json.loads(info.info.decode("utf-8"))["statistic"]

    def from_sink(self, *messages: Any) -> None:
        for message in messages:
            self._events.send_multipart(message.frames())

    def gone(self, client: bytes, lost: int = 0, listens: bool = False) -> None:
        self.from_sink(Gone(client, lost, listens))

    @contextmanager
    def running(self) -> Iterator[None]:
        with running_role(self.ventilator, self.link):
            yield


@pytest.fixture
def bench(hub: Hub, link: FakeLink) -> Iterator[Bench]:
    """Not running yet."""
    made = Bench(hub, link)
    yield made
    made.ventilator.close()


def failure(message: Any) -> RequestFailed:
    assert isinstance(message, RequestFailed), message
    return message


# ----------------------------------------------------------------------------- requests


def test_a_request_becomes_a_batch_and_is_registered(bench: Bench) -> None:
    texts = ["hello", "a b", "longer than these"]
    with bench.running():
        worker = bench.worker()
        bench.request(texts, request_id=7)
        assert bench.for_sink() == Registered(1, b"me", 7, 3, 0)
        batch = worker.batch()
        worker.done(batch)
    encoded = Tokenizer(vocabulary(), bench.spec.tokenizer).encode(texts, False)
    assert batch.handles.tolist() == [1, 1, 1]
    assert batch.indices.tolist() == [0, 1, 2]
    assert batch.lengths.tolist() == [one.features.shape[1] for one in encoded]
    features = np.concatenate([one.features for one in encoded], axis=1)
    np.testing.assert_array_equal(batch.features, features)


def test_the_sink_learns_how_long_a_result_with_a_vector_a_token_is(
    hub: Hub, link: FakeLink
) -> None:
    bench = Bench(hub, link, "-pooling_strategy", "NONE")
    try:
        with bench.running():
            bench.request(["a b", "c"], request_id=7)
            assert bench.for_sink() == Registered(1, b"me", 7, 2, 4)  # [CLS] a b [SEP]
    finally:
        bench.ventilator.close()


def test_a_request_waits_for_a_worker(bench: Bench) -> None:
    with bench.running():
        bench.request(["first"])
        assert isinstance(bench.for_sink(), Registered)
        status = bench.status()
        assert (status["num_open_request"], status["num_waiting_row"]) == (1, 1)
        worker = bench.worker()
        worker.done(worker.batch())
        while bench.status()["num_open_request"]:
            pass  # the worker's word takes another way than the question


def test_requests_of_different_clients_share_a_batch(bench: Bench) -> None:
    with bench.running():
        bench.request(["a"], request_id=5, client=b"one")
        bench.request(["b"], request_id=5, client=b"two")
        registered = [bench.for_sink(), bench.for_sink()]
        assert [(r.handle, r.client) for r in registered] == [(1, b"one"), (2, b"two")]
        batch = bench.worker().batch()
    assert (batch.handles.tolist(), batch.indices.tolist()) == ([1, 2], [0, 0])


def test_a_worker_holds_no_more_than_its_credits(bench: Bench) -> None:
    with bench.running():
        worker = bench.worker(credits=1)
        bench.request(["a"])
        first = worker.batch()
        bench.request(["b"], request_id=2)
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
        assert bench.status()["num_waiting_row"] == 1
        assert worker.is_idle
        worker.done(first)
        assert worker.batch().handles.tolist() == [2]


def test_a_large_request_is_computed_in_batches_and_registered_when_all_is_read(
    bench: Bench,
) -> None:
    count = CHUNK_ROWS * 3 + 5
    seen: List[int] = []
    with bench.running():
        worker = bench.worker()
        bench.request(["text %d" % number for number in range(count)])
        while len(seen) < count:
            batch = worker.batch()
            seen += batch.indices.tolist()
            worker.done(batch)
        announced, registered = bench.for_sink(), bench.for_sink()
    assert announced == Announced(1, b"me", 1), "it would be lost in silence until it is registered"
    assert (registered.handle, registered.rows) == (1, count)
    assert sorted(seen) == list(range(count))


def test_a_request_that_ends_as_it_comes_is_not_announced(bench: Bench) -> None:
    with bench.running():
        bench.ventilator._reception.spec = replace(bench.spec, request_timeout=1e-9)
        bench.request(["a"] * (CHUNK_ROWS + 1))
        assert failure(bench.for_sink()).kind == "deadline"
        assert bench.status()["num_open_request"] == 0, "that is the next message"


def test_a_request_that_cannot_be_read_is_answered_and_counted(bench: Bench, log: Any) -> None:
    with bench.running():
        bench.send_frames(b"me", b"[5]", b"7", b"1")
        failed = failure(bench.for_sink())
        bench.send_frames(b"nobody knows who sent this")
        status = bench.status()
    assert (failed.handle, failed.client, failed.request_id) == (None, b"me", 7)
    assert failed.kind == "bad_request"
    assert "text 0 must be a string" in failed.message
    assert status["num_error"] == {"malformed": 2, "bad_request": 1}
    assert status["num_open_request"] == 0
    assert "warning: refused a request from 127.0.0.1 that can't be read" in log.text


def test_a_text_that_cannot_be_encoded_ends_its_request(hub: Hub, link: FakeLink) -> None:
    bench = Bench(hub, link, "-no_special_token")
    try:
        with bench.running():
            bench.request([["a"], []], request_id=3)
            failed = failure(bench.for_sink())
            assert bench.status()["num_open_request"] == 0
    finally:
        bench.ventilator.close()
    assert (failed.handle, failed.request_id, failed.kind) == (1, 3, "bad_request")
    assert "text 1 has no tokens" in failed.message


@pytest.mark.parametrize("count", [1, CHUNK_ROWS + 1], ids=["at once", "in threads"])
def test_a_bug_in_tokenizing_ends_its_request_only(
    count: int, bench: Bench, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("[UNK]")

    with bench.running():
        with monkeypatch.context() as patch:
            patch.setattr(Tokenizer, "encode", fail)
            bench.request(["a"] * count)
            first = bench.for_sink()
            failed = failure(bench.for_sink() if isinstance(first, Announced) else first)
            # A request's later chunks may fail after it has ended; they are nobody's.
            assert bench.status()["num_error"] == {"internal": 1}
        bench.request(["b"], request_id=2)
        while not isinstance(bench.for_sink(), Registered):
            pass
    assert (failed.handle, failed.kind) == (1, "internal")
    assert "error: can't tokenize a request: KeyError" in log.text


def test_users_of_a_client_stand_in_lines_of_their_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: List[str] = []
    schedule = bench.ventilator._executor.schedule

    def note(event: work.Event, *rest: Any) -> None:
        if isinstance(event, work.Opened):
            opened.append(event.user)
        schedule(event, *rest)

    monkeypatch.setattr(bench.ventilator._executor, "schedule", note)
    with bench.running():
        bench.request(["a"], 1, user="somebody")
        bench.request(["a"], 2)
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
    assert opened == ["somebody", ""]


def test_a_deadline(bench: Bench) -> None:
    with bench.running():
        bench.request(["a"], timeout=0.001)
        first = bench.for_sink()  # on a busy machine, its time is over before it is tokenized
        failed = failure(bench.for_sink() if isinstance(first, Registered) else first)
    assert (failed.handle, failed.kind) == (1, "deadline")


def test_work_for_a_client_that_is_gone_is_dropped(bench: Bench) -> None:
    with bench.running():
        for number, client in enumerate((b"leaver", b"other"), 1):
            bench.request(["a"], request_id=number, client=client)
            assert bench.for_sink().client == client
        bench.gone(b"leaver")
        assert bench.for_sink() == Dropped(1)
        assert bench.worker().batch().handles.tolist() == [2]


def test_work_for_a_client_that_does_not_read_ends_in_errors(bench: Bench) -> None:
    with bench.running():
        for number, client in enumerate((b"sleeper", b"other"), 1):
            bench.request(["a"], request_id=number, client=client)
            assert bench.for_sink().client == client
        bench.gone(b"sleeper", lost=3, listens=True)
        failed = failure(bench.for_sink())
        assert (failed.handle, failed.client, failed.kind) == (1, b"sleeper", "overloaded")
        assert bench.worker().batch().handles.tolist() == [2]
        assert bench.status()["num_expired_reply"] == 3


def test_a_request_that_names_no_time_has_the_servers(hub: Hub, link: FakeLink) -> None:
    bench = Bench(hub, link, "-request_timeout", "1")
    try:
        with bench.running():
            bench.request(["a"])
            assert isinstance(bench.for_sink(), Registered)
            assert failure(bench.for_sink()).kind == "deadline"
    finally:
        bench.ventilator.close()


def test_a_reply_that_is_too_large_is_refused_with_the_way_out(hub: Hub, link: FakeLink) -> None:
    bench = Bench(hub, link, "-max_reply_mb", "1")
    try:
        with bench.running():
            bench.request(["a"] * 1000)
            failed = failure(bench.for_sink())
            assert failed.kind == "bad_request"
            assert "-max_reply_mb" in failed.message
            # A stream is never there as a whole.
            bench.request(["a"] * 160, stream=True)
            assert isinstance(bench.for_sink(), Registered)
    finally:
        bench.ventilator.close()


def test_texts_without_pooling_count_for_the_tokens_that_they_have(
    hub: Hub, link: FakeLink
) -> None:
    """These have three tokens each, and could have a hundred characters more."""
    bench = Bench(hub, link, "-max_reply_mb", "10", "-pooling_strategy", "NONE")
    rows = CHUNK_ROWS + 1
    text = "x" * (MAX_WORD_CHARACTERS + 1)
    try:
        with bench.running():
            bench.request([text] * rows)
            assert isinstance(bench.for_sink(), Announced)
            assert bench.for_sink().padded_length == 3
            assert bench.status()["num_open_reply_byte"] == rows * 3 * 768 * 4
            bench.request(["b c d e"] * rows, 2, b"you")
            assert isinstance(bench.for_sink(), Announced)
            failed = failure(bench.for_sink())
            assert (failed.handle, failed.kind) == (2, "bad_request")
            assert "-max_reply_mb" in failed.message
            status = bench.status()
            assert status["num_open_request"] == 1
            assert status["num_waiting_row"] == rows, "nothing of it is to be computed"
            assert status["num_open_reply_byte"] == rows * 3 * 768 * 4
            # There would be place for a token of each text, and later for all.
            bench.request([text] * rows, 3, b"you")
            assert isinstance(bench.for_sink(), Announced)
            assert isinstance(bench.for_sink(), Registered)
            bench.request([text] * 100, 4, b"somebody")
            assert isinstance(bench.for_sink(), Announced)
            failed = failure(bench.for_sink())
            assert failed.kind == "overloaded"
            assert failed.retry_after is not None
            assert failed.retry_after > 0
    finally:
        bench.ventilator.close()


def test_what_a_request_takes_is_told_and_given_back(bench: Bench) -> None:
    with bench.running():
        bench.request(["some text"] * 100)
        assert isinstance(bench.for_sink(), Announced)
        assert isinstance(bench.for_sink(), Registered)
        status = bench.status()
        assert status["num_open_reply_byte"] == 100 * 768 * 4
        assert status["num_open_byte"] > 100 * 300
        worker = bench.worker()
        worker.done(worker.batch())
        while bench.status()["num_open_request"]:
            pass  # the worker's word takes another way than the question
        assert bench.status()["num_open_byte"] == bench.status()["num_open_reply_byte"] == 0


# --------------------------------------------------------------------------- protocol 2


def test_what_a_request_asks_for_reaches_the_sink(bench: Bench) -> None:
    with bench.running():
        bench.request(["abc"], dtype="float16", stream=True, tokens=True, offsets=True)
        registered = bench.for_sink()
    assert registered.plan is not None
    assert (registered.plan.stream, registered.plan.half) == (True, True)
    assert registered.plan.num_tokens == 5
    assert registered.plan.accepted <= registered.plan.tokenized
    assert json.loads(registered.tokens) == [["[CLS]", "a", "##b", "##c", "[SEP]"]]
    assert json.loads(registered.offsets) == [[[0, 0], [0, 1], [1, 2], [2, 3], [0, 0]]]


def test_tokens_are_sent_if_asked_for_in_protocol_2_and_by_the_flag_in_1(
    hub: Hub, link: FakeLink
) -> None:
    bench = Bench(hub, link, "-show_tokens_to_client")
    try:
        with bench.running():
            bench.request(["a"])
            assert bench.for_sink().tokens is not None
            bench.request(["a"], timeout=10.0)
            assert bench.for_sink().tokens is None
    finally:
        bench.ventilator.close()


def test_another_pooling_reaches_the_worker(bench: Bench) -> None:
    with bench.running():
        bench.request(["a b"], request_id=1, pooling_strategy="NONE", pooling_layer=(-1,))
        bench.request(["c"], request_id=2, normalize=False)
        assert bench.for_sink().padded_length == 4
        assert bench.for_sink().padded_length == 0
        batch = bench.worker().batch()
    assert batch.poolings == {1: Pooling("NONE", (11,), False)}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pooling_strategy": "MEDIAN"}, "'MEDIAN'"),
        ({"pooling_layer": (99,)}, "99"),
        ({"truncate": False}, "text 0 has"),
    ],
)
def test_what_cannot_be_done_is_answered(bench: Bench, asked: Any, message: str) -> None:
    with bench.running():
        bench.request(["a " * 600] * 2, **asked)
        reply = bench.for_sink()
        failed = failure(reply)
        assert bench.status()["num_open_request"] == 0
    assert failed.kind == ("too_long" if "truncate" in asked else "bad_request")
    assert message in failed.message


def test_tokenized_texts_have_no_offsets(bench: Bench) -> None:
    with bench.running():
        bench.request([["a"]], offsets=True)
        assert "tokenized texts have no offsets" in failure(bench.for_sink()).message


def test_a_cancelled_request_is_dropped(bench: Bench) -> None:
    with bench.running():
        bench.request(["a"], request_id=1)
        bench.request(["b"], request_id=2)
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
        bench.send_frames(b"other", b"CANCEL", b"1", b"0")
        bench.send_frames(b"me", b"CANCEL", b"1", b"0")
        bench.send_frames(b"me", b"CANCEL", b"1", b"0")
        assert bench.for_sink() == Dropped(1)
        status = bench.status()
        assert (status["num_open_request"], status["num_cancelled"]) == (1, 1)
        assert bench.worker().batch().handles.tolist() == [2]


def test_a_request_that_is_sent_again_is_taken_once(bench: Bench) -> None:
    with bench.running():
        bench.request(["a"], request_id=1)
        bench.request(["a"], request_id=1, again=True)
        assert isinstance(bench.for_sink(), Registered)
        assert bench.status()["num_open_request"] == 1
        bench.request(["a"], request_id=2, again=True)  # the first one was lost
        assert bench.for_sink().request_id == 2


def test_a_client_that_asked_again_is_not_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink may find it gone in the moment in which it comes back."""
    monkeypatch.setattr(reception, "BACK_FOR", float("inf"))  # however slow this test is
    with bench.running():
        bench.request(["a"], request_id=1)
        bench.request(["a"], request_id=1, client=b"other", timeout=100.0)
        assert [bench.for_sink().client for _ in range(2)] == [b"me", b"other"]
        bench.request(["a"], request_id=1, again=True)
        assert bench.status()["num_open_request"] == 2
        bench.gone(b"me")
        bench.gone(b"other")
        assert bench.for_sink() == Dropped(2)
        assert bench.status()["num_open_request"] == 1


def test_more_than_the_queue_holds_is_refused_at_once(hub: Hub, link: FakeLink) -> None:
    bench = Bench(hub, link, "-max_queue_rows", "10", "-max_client_share", "1")
    try:
        with bench.running():
            bench.request(["a"] * 8, request_id=1)
            assert isinstance(bench.for_sink(), Registered)
            bench.request(["a"] * 3, request_id=2)
            refused = failure(bench.for_sink())
            bench.request(["a"] * 11, request_id=3)
            too_large = failure(bench.for_sink())
            worker = bench.worker()
            worker.done(worker.batch())
            while bench.status()["num_open_request"]:
                pass  # the worker's word takes another way than the question
            bench.request(["a"] * 3, request_id=4)
            assert bench.for_sink().request_id == 4
    finally:
        bench.ventilator.close()
    assert refused.kind == "overloaded"
    assert refused.retry_after is not None
    assert too_large.kind == "bad_request"


def test_the_status_tells_of_stages_and_workers(bench: Bench) -> None:
    with bench.running():
        worker = bench.worker()
        bench.request(["a", "b"])
        batch = worker.batch()
        bench.for_sink()
        busy = bench.status()
        worker.done(batch)
        status = bench.status()
        while status["num_open_request"]:
            status = bench.status()
    assert busy["workers"] == {"worker-0.0": {"state": "busy", "batches": 0}}
    assert busy["num_open_row"] == 2
    assert status["workers"] == {"worker-0.0": {"state": "idle", "batches": 1}}
    histograms = status["histograms"]
    assert all(histograms["stage_%s_seconds" % stage]["count"] == 1 for stage in STAGES)


# ----------------------------------------------------------------------------- commands


def test_the_configuration(bench: Bench) -> None:
    with bench.running():
        bench.send_frames(b"me", b"SHOW_CONFIG", b"4", b"0")
        info = bench.for_sink()
    assert (info.client, info.request_id) == (b"me", 4)
    described = json.loads(info.info.decode("utf-8"))
    assert described["port"] == bench.spec.port
    assert "statistic" not in described


def test_a_request_to_stop_from_this_machine(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.command(b"TERMINATION")
        assert link.heard() == {"event": "terminate"}


def test_a_request_to_stop_from_another_machine(
    bench: Bench, link: FakeLink, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[str] = []

    def is_loopback(peer: str) -> bool:
        asked.append(peer)
        return False

    monkeypatch.setattr(authority, "is_loopback", is_loopback)
    with bench.running():
        bench.command(b"TERMINATION")
        bench.status()
        assert link.is_silent
    assert asked == ["127.0.0.1"]
    assert "warning: refused to stop for 127.0.0.1" in log.text


def test_a_request_to_stop_from_another_machine_with_the_token(
    hub: Hub, link: FakeLink, log: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(authority, "is_loopback", lambda peer: False)
    token = "a-token-of-some-length"
    (tmp_path / "token").write_text(token)
    bench = Bench(hub, link, "-admin_token_file", str(tmp_path / "token"))
    with bench.running():
        for shown in (None, "another-of-some-length"):
            request = Request(b"me", b"TERMINATION", 1, admin_token=shown)
            bench.send_frames(*encode_request(request))
        bench.status()
        assert link.is_silent
        request = Request(b"me", b"TERMINATION", 1, admin_token=token)
        bench.send_frames(*encode_request(request))
        assert link.heard() == {"event": "terminate"}
        # As text, or in a header that can't be read, it is quoted nowhere.
        bench.send_frames(b"me", b'["a"]', b"2", b"1", b'{"admin_token": "%s"' % token.encode())
        bench.send_frames(b"me", b'["a"]', b"2", b"1", b'{"admin_token": ["%s"]}' % token.encode())
        for _ in range(2):
            assert token not in failure(bench.for_sink()).message
    bench.ventilator.close()
    assert "the admin token is another" in log.text
    assert token not in log.text


# ------------------------------------------------------------------------------ workers


def test_the_work_of_a_lost_worker_is_another_s(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        lost = bench.worker(b"worker-0.0")
        bench.request(["a", "b"])
        first = lost.batch()
        other = bench.worker(b"worker-1.0")
        link.tell("worker_lost", worker="worker-0.0", reason="worker-0 died")
        again = other.batch()
        # A word of the lost one that comes late ends nothing.
        lost.done(first)
        bench.for_sink()
        np.testing.assert_array_equal(again.features, first.features)
        assert again.batch_id != first.batch_id
        other.fail(again, "the engine failed")
        for _ in range(2):  # the first text is tried once more, by itself
            last = other.batch()
            other.fail(last, "the engine failed again")
        failed = failure(bench.for_sink())
    assert last.indices.tolist() == [0]
    assert failed.kind == "worker_failed"
    assert failed.message == (
        "text 0 can't be computed: it failed 4 times, at last: the engine failed again"
    )


def test_what_a_worker_ended_before_it_was_lost_does_not_run_again(
    bench: Bench, link: FakeLink
) -> None:
    with bench.running():
        lost = bench.worker(b"worker-0.0")
        bench.request(["a"])
        batch = lost.batch()
        assert isinstance(bench.for_sink(), Registered)
        lost.done(batch)
        link.tell("worker_lost", worker="worker-0.0", reason="worker-0 died")
        assert bench.status()["num_open_request"] == 0


def test_a_worker_that_takes_too_long_is_told_to_the_supervisor(
    bench: Bench, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.running():
        worker = bench.worker(b"worker-0.0")
        bench.request(["a"])
        worker.batch()
        later = time.monotonic() + 61.0
        with monkeypatch.context() as patch:
            patch.setattr(module.time, "monotonic", lambda: later)
            told = link.heard()
    assert told["event"] == "hung"
    assert told["worker"] == "worker-0.0"
    assert re.search(r"it has computed a batch for \d\d s", told["reason"])


def test_too_little_memory_is_told_and_shown(bench: Bench, log: Any) -> None:
    with bench.running():
        worker = bench.worker()
        whole = bench.status()["token_budget"]
        bench.request(["a" * 20] * 250)
        first = worker.batch()
        worker.fail(first, "out of memory", out_of_memory=True)
        halves = [worker.batch()]
        worker.done(halves[0])
        halves.append(worker.batch())
        assert isinstance(bench.for_sink(), Announced)
        assert isinstance(bench.for_sink(), Registered)
        assert bench.status()["token_budget"] <= whole
    assert [len(half.lengths) for half in halves] == [
        (len(first.lengths) + 1) // 2,
        len(first.lengths) // 2,
    ]


def test_a_worker_whose_connection_is_gone_is_given_up(bench: Bench) -> None:
    """As it looks before the supervisor knows: the socket has no such peer."""
    ghost = work.WorkerJoined(b"worker-0.0", 1000)  # its credits make it the first choice
    bench.ventilator._executor.schedule(ghost)
    with bench.running():
        worker = bench.worker(b"worker-1.0", credits=1)
        bench.request(["a"])
        assert worker.batch().handles.tolist() == [1]


def test_batches_leave_in_order_though_a_connection_is_gone(bench: Bench) -> None:
    """A worker computes them in the order in which they come, which the scheduler relies on."""
    ghost = work.WorkerJoined(b"worker-0.0", 3)  # as many as the other has, and it came first
    bench.ventilator._executor.schedule(ghost)
    with bench.running():
        worker = bench.worker(b"worker-1.0", credits=3)
        assert bench.status()["num_waiting_row"] == 0
        bench.request(["a"] * (bench.spec.max_batch_size + 1))
        batches = [worker.batch() for _ in range(2)]
    numbers = [batch.batch_id for batch in batches]
    assert numbers == sorted(numbers)
    assert sorted(len(batch.lengths) for batch in batches) == [1, bench.spec.max_batch_size]


def test_a_batch_that_fails_runs_again_and_then_fails_its_request(bench: Bench) -> None:
    with bench.running():
        worker = bench.worker()
        bench.request(["a"], request_id=3)
        bench.for_sink()
        for _ in range(2):
            worker.fail(worker.batch(), "EngineError: no idea")
        failed = failure(bench.for_sink())
        assert bench.status()["num_error"] == {"worker_failed": 1}
    assert (failed.handle, failed.request_id, failed.kind) == (1, 3, "worker_failed")
    assert "EngineError: no idea" in failed.message


def test_a_partial_request_goes_on_without_a_row(bench: Bench) -> None:
    with bench.running():
        worker = bench.worker()
        bench.request(["a", "b"], partial=True)
        assert isinstance(bench.for_sink(), Registered)
        for _ in range(2):
            worker.fail(worker.batch(), "boom")
        for _ in range(2):  # the first row by itself
            batch = worker.batch()
            assert batch.indices.tolist() == [0]
            worker.fail(batch, "boom")
        worker.done(worker.batch())
        message = "text 0 can't be computed: it failed 4 times, at last: boom"
        assert bench.for_sink() == RowLost(1, 0, message)
        while bench.status()["num_open_request"]:
            pass  # the worker's word takes another way than the question


# ------------------------------------------------------------------------------ the end


def test_drained_at_once_when_nothing_is_under_way(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        link.tell("drain", timeout=PATIENCE)
        assert link.heard() == {"event": "drained", "accepted": 0}
        link.let_it_go_round()
        assert link.is_silent, "it is said once"


def test_what_was_accepted_is_finished_and_nothing_else_begun(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.request(["a"])
        bench.request(["b"], request_id=2)
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
        link.tell("drain", timeout=PATIENCE)
        bench.request(["late"], request_id=3)
        refused = failure(bench.for_sink())
        assert (refused.handle, refused.request_id) == (None, 3)
        assert refused.kind == "shutting_down"
        link.let_it_go_round()
        assert link.is_silent, "the others are under way"
        worker = bench.worker()
        worker.done(worker.batch())
        assert link.heard() == {"event": "drained", "accepted": 2}


def test_what_is_not_finished_in_time_is_refused(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.request(["a"])
        bench.for_sink()
        link.tell("drain", timeout=0.0)
        failed = failure(bench.for_sink())
        assert (failed.handle, failed.kind) == (1, "shutting_down")
        assert link.heard() == {"event": "drained", "accepted": 1}


def test_a_bug_in_reading_a_request_is_not_the_end_for_others(
    bench: Bench, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = entrance.decode_request

    def decode_one(frames: Any) -> Request:
        if frames[0] == b"unlucky":
            raise KeyError("a text")
        return read(frames)

    monkeypatch.setattr(entrance, "decode_request", decode_one)
    with bench.running():
        bench.request(["a"], client=b"unlucky")
        bench.request(["b"], client=b"me")
        assert bench.for_sink().client == b"me"
    assert "error: a bug in reading a request: KeyError" in log.text


def test_what_came_before_the_stop_is_refused_rather_than_lost(
    bench: Bench, hub: Hub, link: FakeLink
) -> None:
    count = BURST * 2 + 20  # more than are read in one turn
    # Not over the network, so that all of them have come before the stop is read.
    bench.ventilator._entrance.socket.bind("inproc://requests")
    client = hub.socket(zmq.PUSH)
    client.connect("inproc://requests")
    for number in range(count):
        client.send_multipart([b"me", b'["a"]', b"%d" % number, b"1"])
    link.post("stop")
    bench.ventilator.run()
    refused = [failure(bench.for_sink()) for _ in range(count)]
    assert [failed.request_id for failed in refused] == list(range(count))
    assert {(failed.handle, failed.kind) for failed in refused} == {(None, "shutting_down")}


def test_who_never_stops_sending_does_not_keep_it_from_stopping(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: List[float] = []

    def read(take: Any) -> None:
        reads.append(0.3)  # seconds that it takes
        assert len(reads) < 100, "it never stops reading"

    clock = SimpleNamespace(monotonic=lambda: sum(reads))
    monkeypatch.setattr(entrance, "time", clock, raising=False)
    always = SimpleNamespace(poll=lambda timeout: 1)
    monkeypatch.setattr(bench.ventilator._entrance, "socket", always)
    monkeypatch.setattr(bench.ventilator._entrance, "read", read)
    bench.ventilator._refuse_the_rest()
    assert len(reads) == 4


# -------------------------------------------------------------------------- another model


def new_spec(bench: Bench, **changes: Any) -> str:
    return replace(bench.spec, model="another", generation=2, **changes).to_json()


def test_requests_stay_with_the_model_that_they_were_accepted_for(
    bench: Bench, link: FakeLink
) -> None:
    with bench.running():
        old = bench.worker(b"worker-0.0", credits=1)
        bench.request(["a"], 1)
        held = old.batch()
        bench.request(["b"], 2)
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
        link.tell("load", spec=new_spec(bench))
        assert link.heard() == {"event": "loaded"}
        new = FakeWorker(bench._hub, b"worker-0.1")
        new.send(Ready(2, generation=2))
        bench.status()
        bench.request(["c"], 3)
        assert bench.for_sink().request_id == 3
        assert new.is_idle, "it isn't its turn yet"
        link.tell("switch")
        link.let_it_go_round()
        bench.request(["d"], 4)
        assert new.batch().handles.tolist() == [4]
        assert bench.for_sink().request_id == 4
        old.done(held)
        rest = old.batch()
        assert rest.handles.tolist() == [2, 3]
        assert link.is_silent
        old.done(rest)
        assert link.heard() == {"event": "generation_over"}
        bench.command(b"SHOW_CONFIG")
        info = json.loads(bench.for_sink().info.decode("utf-8"))
        assert (info["model"], info["generation"]) == ("another", 2)


def test_a_request_to_the_new_model_is_read_by_its_tokenizer(bench: Bench, link: FakeLink) -> None:
    shorter = replace(bench.spec.tokenizer, max_length=4)
    with bench.running():
        link.tell("load", spec=new_spec(bench, tokenizer=shorter))
        assert link.heard() == {"event": "loaded"}
        link.tell("switch")
        assert link.heard() == {"event": "generation_over"}, "there was no request"
        worker = FakeWorker(bench._hub, b"worker-0.1")
        worker.send(Ready(2, generation=2))
        bench.request(["a text with more tokens than that"] * (CHUNK_ROWS + 1))
        lengths = worker.batch().lengths.tolist()
    assert set(lengths) == {4}


def test_a_vocabulary_that_cannot_be_read(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        link.tell("load", spec=new_spec(bench, vocabulary="/nowhere/vocab.txt"))
        heard = link.heard()
        assert heard["event"] == "load_failed"
        assert "/nowhere/vocab.txt" in heard["message"]
        link.tell("unload")
        bench.request(["a"])
        assert bench.worker().batch().handles.tolist() == [1]


def test_a_model_that_is_given_up(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        link.tell("load", spec=new_spec(bench))
        assert link.heard() == {"event": "loaded"}
        link.tell("unload")
        late = FakeWorker(bench._hub, b"worker-0.1")
        late.send(Ready(2, generation=2))
        bench.request(["a"])
        assert bench.worker(b"worker-0.0").batch().handles.tolist() == [1]
        assert late.is_idle


def test_all_generations_are_drained(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.request(["a"], 1)
        link.tell("load", spec=new_spec(bench))
        assert link.heard() == {"event": "loaded"}
        assert bench.for_sink().request_id == 1
        link.tell("switch")
        link.let_it_go_round()
        bench.request(["b"], 2)
        assert bench.for_sink().request_id == 2
        link.tell("drain", timeout=0.0)
        assert [failure(bench.for_sink()).request_id for _ in range(2)] == [1, 2]
        reports = [link.heard(), link.heard()]
    assert {"event": "drained", "accepted": 2} in reports


def test_what_is_open_when_it_is_told_to_stop_is_answered(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.request(["a"])
        assert isinstance(bench.for_sink(), Registered)
    assert failure(bench.for_sink()).kind == "shutting_down"


def test_a_request_to_reload_from_this_machine(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.command(b"RELOAD")
        assert link.heard() == {"event": "reload"}


# ------------------------------------------------------------------- a pipeline that is lost


def test_whose_requests_would_be_lost_in_silence(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.request(["a"], 1, b"one")
        bench.request(["a"], 2, b"two", tokens=True)  # it asks again by itself
        assert [bench.for_sink().request_id for _ in range(2)] == [1, 2]
        link.tell("abandon")
        assert link.heard() == {"event": "abandoned", "requests": [("one", 1)]}


def test_whose_replies_would_be_lost_with_the_sink(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        bench.from_sink(Waiting(b"one", 8, is_over=False), Waiting(b"one", 9, is_over=False))
        bench.from_sink(Waiting(b"two", 3, is_over=False), Waiting(b"one", 8, is_over=True))
        bench.from_sink(Gone(b"two", lost=1))
        while bench.status()["num_expired_reply"] == 0:
            pass  # the sink's word takes another way than the question
        link.tell("abandon")
        assert link.heard() == {"event": "abandoned", "requests": [("one", 9)]}


def test_whoever_asks_again_by_itself_is_not_announced(bench: Bench) -> None:
    with bench.running():
        bench.request(["a"] * (CHUNK_ROWS + 1), tokens=True)
        assert isinstance(bench.for_sink(), Registered)


def test_those_of_before_are_answered(bench: Bench, link: FakeLink) -> None:
    with bench.running():
        link.tell("lost", requests=[["m\xfc", 1 << 70]])
        failed = failure(bench.for_sink())
    assert (failed.client, failed.request_id) == (b"m\xfc", 1 << 70)
    assert failed.kind == "internal"
    assert "send it again" in failed.message
