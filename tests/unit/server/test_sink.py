from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Iterator, Sequence

import numpy as np
import pytest
import zmq
from support import PATIENCE
from unit.server.support import FakeLink, Hub, echo_spec, inproc, receive, running_role

from bert_serving.client.protocol import ErrorReply, InfoReply, VectorsReply
from bert_serving.client.reply_frames import decode_reply
from bert_serving.server import delivery, publishing
from bert_serving.server.assembly import Complete
from bert_serving.server.batch_messages import Broken, Done, Part
from bert_serving.server.messages import decode
from bert_serving.server.reply_plan import ReplyPlan
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Gone,
    Info,
    Registered,
    RequestFailed,
    Waiting,
)
from bert_serving.server.sink import BURST, Sink, endings, reply_frames


class Bench:
    """A sink, and all that is around it: ventilator and workers, clients, the supervisor."""

    def __init__(self, hub: Hub, link: FakeLink) -> None:
        self._hub = hub
        self.link = link
        endpoints = inproc()
        self.events = hub.socket(zmq.PULL)
        self.events.bind(endpoints.events)
        spec = echo_spec()
        self.sink = Sink(hub.context, spec, endpoints, link)  # type: ignore[arg-type]
        self._address = "tcp://127.0.0.1:%d" % spec.port_out
        self._results = hub.socket(zmq.PUSH)
        self._results.set_hwm(0)
        self._results.connect(endpoints.results)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._results.send_multipart(message.frames())

    def connect(self, *subscriptions: bytes, most: int = 1000) -> zmq.Socket:
        """A connection to the clients' port; the sink may not have read of it yet."""
        client = self._hub.socket(zmq.SUB)
        client.setsockopt(zmq.RCVHWM, most)
        for subscription in subscriptions:
            client.setsockopt(zmq.SUBSCRIBE, subscription)
        client.connect(self._address)
        return client

    def client(self, identity: bytes, most: int = 1000) -> zmq.Socket:
        """A client that the sink knows to listen."""
        client = self.connect(identity, most=most)
        self.send(Info(identity, 0, b'{"hello": 1}'))
        assert receive(client) == [identity + b"\0", b'{"hello": 1}', b"0"]
        return client

    @contextmanager
    def running(self) -> Iterator[None]:
        with running_role(self.sink, self.link):
            yield


@pytest.fixture
def bench(hub: Hub, link: FakeLink) -> Iterator[Bench]:
    """Not running yet."""
    made = Bench(hub, link)
    yield made
    made.sink.close()


def part(handle: int, indices: Sequence[int], value: float = 0.0) -> Part:
    """Rows of a request; each vector holds its row's number and the value."""
    rows = len(indices)
    vectors = np.array([[index, value] for index in indices], np.float32)
    return Part(
        np.full(rows, handle, np.int64),
        np.array(indices, np.int32),
        np.ones(rows, np.int32),
        vectors,
        False,
    )


def number_of(client: zmq.Socket) -> int:
    """The request that the next reply answers."""
    return int(receive(client)[-1])


def test_the_ventilator_is_told_what_has_ended_in_order_and_at_once() -> None:
    ends = [replace(part(1, [0]), ends=number, worker="w%d" % number) for number in (4, 5, 6)]
    broken = Broken("w7", 7, "boom")
    messages = [ends[0], part(1, [1]), ends[1], broken, ends[2]]
    assert list(endings(messages)) == [
        Done(((4, "w4"), (5, "w5"))),
        broken,
        Done(((6, "w6"),)),
    ]
    assert list(endings([part(1, [0]), Dropped(3)])) == []


def test_the_end_of_a_batch_is_told_when_its_vectors_are_there(bench: Bench) -> None:
    with bench.running():
        bench.send(part(1, [0]), replace(part(1, [1]), ends=2**40, worker="worker-0.0"))
        assert decode(receive(bench.events)) == Done(((2**40, "worker-0.0"),))
        bench.send(Broken("worker-0.0", 5, "boom", True))
        assert decode(receive(bench.events)) == Broken("worker-0.0", 5, "boom", True)


# ------------------------------------------------------------------------------- replies


def test_the_frames_of_vectors() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    frames = reply_frames(Complete(b"me", 7, array, b'[["a"],["b"]]'))
    assert frames[0] == b"me\0"
    reply = decode_reply(frames)
    assert isinstance(reply, VectorsReply)
    assert (reply.request_id, reply.tokens) == (7, [["a"], ["b"]])
    np.testing.assert_array_equal(reply.array, array)


def test_the_frames_of_an_error() -> None:
    frames = reply_frames(RequestFailed(3, b"me", 7, "deadline", "too late"))
    assert frames[0] == b"me\0"
    assert decode_reply(frames) == ErrorReply(7, "deadline", "too late")


def test_a_request_in_parts_is_one_reply(bench: Bench) -> None:
    with bench.running():
        client = bench.client(b"me")
        bench.send(part(1, [2, 3]), Registered(1, b"me", 11, 4, 25), part(1, [0, 1]))
        reply = decode_reply(receive(client))
    assert isinstance(reply, VectorsReply)
    assert reply.request_id == 11
    assert reply.array[:, 0].tolist() == [0, 1, 2, 3]


def test_replies_leave_in_the_order_in_which_requests_end(bench: Bench) -> None:
    with bench.running():
        client = bench.client(b"me")
        bench.send(
            Registered(1, b"me", 11, 2, 25),
            Registered(2, b"me", 12, 2, 25),
            Registered(3, b"me", 13, 1, 25),
            part(1, [0]),
            part(2, [1, 0]),
            RequestFailed(None, b"me", 14, "bad_request", "no texts"),
            part(3, [0]),
            part(1, [1]),
        )
        assert [number_of(client) for _ in range(4)] == [12, 14, 13, 11]


def test_a_request_that_nobody_waits_for_gets_no_reply(bench: Bench) -> None:
    with bench.running():
        client = bench.client(b"me")
        bench.send(Registered(1, b"me", 11, 1, 25), Dropped(1), part(1, [0]))
        bench.send(RequestFailed(1, b"me", 11, "deadline", "late"), Info(b"me", 12, b"{}"))
        reply = decode_reply(receive(client))
        assert reply == InfoReply(12, {})


# -------------------------------------------------------------------------- subscriptions


def test_a_reply_waits_for_its_client_to_listen(bench: Bench) -> None:
    with bench.running():
        witness = bench.client(b"witness")
        bench.send(*[Info(b"late", number, b"{}") for number in range(3)])
        bench.send(Info(b"witness", 1, b"{}"))
        assert number_of(witness) == 1  # so the sink has those before
        late = bench.connect(b"late")
        assert [number_of(late) for _ in range(3)] == [0, 1, 2]


def test_a_subscription_is_to_one_identity_and_no_other(bench: Bench) -> None:
    """A connection of its own for each, since what one refuses another might get."""
    with bench.running():
        spies = [bench.connect(prefix, b"spy-%d" % n) for n, prefix in enumerate((b"", b"clien"))]
        for number, spy in enumerate(spies):
            bench.send(Info(b"spy-%d" % number, 0, b"{}"))
            receive(spy)
        client = bench.client(b"client-1")
        for identity in (b"client-1", b"client-10", b"clien"):
            bench.send(Info(identity, 1, b'{"secret": 1}'))
        assert number_of(client) == 1
        bench.send(Info(b"spy-0", 2, b"{}"), Info(b"spy-1", 2, b"{}"), Info(b"client-1", 2, b"{}"))
        # Replies leave in order, so a foreign one would be there first. The prefix is an
        # identity too, and gets its own reply.
        assert receive(spies[0]) == [b"spy-0\0", b"{}", b"2"]
        assert receive(spies[1]) == [b"clien\0", b'{"secret": 1}', b"1"]
        assert receive(spies[1]) == [b"spy-1\0", b"{}", b"2"]
        assert receive(client) == [b"client-1\0", b"{}", b"2"]


@pytest.mark.parametrize("identity", [b"", b"a\0b", b"i" * 255], ids=["none", "NUL", "long"])
def test_what_can_be_no_identity_is_refused(identity: bytes, bench: Bench, log: Any) -> None:
    with bench.running():
        client = bench.connect(identity)
        log.wait_for("warning: refused a subscription")
        assert "debug: refused it: identity must have 1 to 254 bytes" in log.wait_for("refused it")
        client.close()  # which ends a subscription that was never made
        log.wait_for("debug: refused it")
        # It is no client's end, and others are served.
        bench.client(b"another")
        assert bench.events.poll(0) == 0


def test_there_are_not_more_clients_than_there_is_memory_for(
    bench: Bench, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_LISTENING", 1)
    with bench.running():
        first = bench.client(b"first")
        second = bench.connect(b"second")
        log.wait_for("warning: refused a subscription: 1 clients listen")
        second.close()
        bench.send(Info(b"first", 5, b"{}"))
        assert number_of(first) == 5


def test_a_client_that_leaves_is_told_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "COME_BACK_WITHIN", 0.0)
    with bench.running():
        leaver, other = bench.client(b"leaver"), bench.client(b"other")
        leaver.close()
        assert receive(bench.events) == Gone(b"leaver").frames()
        bench.send(Info(b"other", 5, b"{}"))
        assert number_of(other) == 5
        assert bench.events.poll(0) == 0


def test_of_two_listeners_one_may_leave(
    bench: Bench, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "COME_BACK_WITHIN", 0.0)
    with bench.running():
        first, second = bench.connect(b"shared"), bench.connect(b"shared")
        for _ in range(2):
            log.wait_for(" subscribed from client b'shared'")
        first.close()
        log.wait_for(" unsubscribed from client b'shared'")
        bench.send(Info(b"shared", 5, b"{}"))
        assert number_of(second) == 5
        assert bench.events.poll(0) == 0
        second.close()
        assert receive(bench.events) == Gone(b"shared").frames()


def test_a_client_that_does_not_read_keeps_no_other_waiting(bench: Bench) -> None:
    """Its replies are more than the network holds; none is lost and they stay in order."""
    count, info = 300, b'{"filler": "%s"}' % (b"x" * 65536)
    with bench.running():
        slow, quick = bench.client(b"slow", most=1), bench.client(b"quick")
        bench.send(*[Info(b"slow", number, info) for number in range(count)])
        for number in range(20):
            bench.send(Info(b"quick", number, b"{}"))
            assert number_of(quick) == number
        assert bench.sink._delivery.waiting_replies > 0, "nothing had to wait"
        assert [number_of(slow) for _ in range(count)] == list(range(count))


# ------------------------------------------------------------------------------- the end


def test_flushed_is_reported_once_when_the_last_request_has_ended(
    bench: Bench, link: FakeLink
) -> None:
    with bench.running():
        client = bench.client(b"me")
        bench.send(Registered(1, b"me", 11, 1, 25), part(1, [0]), Registered(2, b"me", 12, 1, 25))
        assert number_of(client) == 11
        link.tell("flush", accepted=3)
        link.let_it_go_round()
        assert link.is_silent, "two requests are under way"
        bench.send(Dropped(3), Info(b"me", 99, b"{}"))
        assert number_of(client) == 99
        link.let_it_go_round()
        assert link.is_silent, "a request is under way"
        bench.send(part(2, [0]))
        assert link.heard() == {"event": "flushed"}
        assert number_of(client) == 12
        link.let_it_go_round()
        assert link.is_silent


def test_a_reply_for_nobody_is_not_waited_for(bench: Bench, link: FakeLink) -> None:
    """Its client may never come; one that reads slowly does get what is its own."""
    with bench.running():
        bench.send(RequestFailed(1, b"absent", 11, "shutting_down", "stopping"))
        link.tell("flush", accepted=1)
        assert link.heard() == {"event": "flushed"}


def test_replies_to_those_who_listen_are_waited_for(bench: Bench, link: FakeLink) -> None:
    """However slowly they read: more waits here than the network holds."""
    count, info = 300, b'{"filler": "%s"}' % (b"x" * 65536)
    with bench.running():
        slow, witness = bench.client(b"slow", most=1), bench.client(b"witness")
        bench.send(*[Info(b"slow", number, info) for number in range(count)])
        bench.send(Info(b"witness", 1, b"{}"))
        assert number_of(witness) == 1
        link.tell("flush", accepted=0)
        link.let_it_go_round()
        assert link.is_silent
        assert [number_of(slow) for _ in range(count)] == list(range(count))
        assert link.heard() == {"event": "flushed"}


def test_last_words_of_others_are_passed_on_after_the_stop(bench: Bench, link: FakeLink) -> None:
    count = 40  # fewer than one pipe holds, for nothing is tried again after the stop
    client = bench.connect(b"me")
    assert bench.sink._clients.socket.poll(PATIENCE * 1000)
    for event in bench.sink._clients.events(0):
        bench.sink._deliver(event)
    bench.send(*[Info(b"me", number, b"{}") for number in range(count)])
    link.post("stop")
    bench.sink.run()  # the stop is the first that it reads
    assert [number_of(client) for _ in range(count)] == list(range(count))


def test_whose_requests_would_be_lost_in_silence(bench: Bench, link: FakeLink) -> None:
    """Those of protocol 1 that are open; others ask again by themselves."""
    plan = ReplyPlan(False, False, 1, 0.0, 0.0)
    with bench.running():
        client = bench.client(b"me")
        bench.send(
            Registered(1, b"me", 11, 1, 25),
            Registered(2, b"me", 12, 1, 25, plan=plan),
            part(3, [0]),  # whose it is isn't known yet
            Registered(4, b"me", 14, 1, 25),
            part(4, [0]),
        )
        assert number_of(client) == 14
        bench.send(Announced(5, b"me", 15), Info(b"me", 16, b"{}"))
        assert number_of(client) == 16
        link.tell("abandon")
        assert link.heard() == {"event": "abandoned", "requests": [("me", 11), ("me", 15)]}


def test_last_words_of_a_lost_ventilator_are_read_before_requests_are_named(
    bench: Bench, link: FakeLink
) -> None:
    count = 2 * BURST
    bench.send(*[Announced(number, b"me", number) for number in range(1, count + 1)])
    link.post("abandon")  # it is the first that it reads
    with bench.running():
        assert len(link.heard()["requests"]) == count


def test_whose_replies_wait_is_told(bench: Bench, link: FakeLink) -> None:
    """Those of protocol 1, results and errors."""
    with bench.running():
        bench.send(
            Registered(1, b"me", 11, 1, 25),
            part(1, [0]),
            Registered(2, b"me", 12, 1, 25, plan=ReplyPlan(False, False, 1, 0.0, 0.0)),
            part(2, [0]),
            RequestFailed(None, b"me", 13, "bad_request", "no texts", asks_again=True),
            RequestFailed(None, b"me", 14, "bad_request", "no texts"),
        )
        for number in (11, 14):
            assert decode(receive(bench.events)) == Waiting(b"me", number, is_over=False)
        link.tell("abandon")
        assert sorted(link.heard()["requests"]) == [("me", 11), ("me", 14)]
        client = bench.connect(b"me")
        assert [number_of(client) for _ in range(4)] == [11, 12, 13, 14]
        for number in (11, 14):
            assert decode(receive(bench.events)) == Waiting(b"me", number, is_over=True)
