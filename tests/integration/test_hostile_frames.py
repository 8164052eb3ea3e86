"""Frames that are no requests: answered where the sender can be told, counted, harmless."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
import zmq
from support import PATIENCE, RawClient

from bert_serving.client import BertClient
from bert_serving.server import BertServer

Connect = Callable[..., BertClient]

ANSWERED: "dict[str, Tuple[Tuple[bytes, ...], str]]" = {
    "three frames": ((b"ID", b'["a"]', b"7"), "3"),
    "six frames": ((b"ID", b'["a"]', b"7", b"1", b"{}", b"more"), "6"),
    "no JSON": ((b"ID", b"hello", b"7", b"1"), "neither a command nor JSON"),
    "a command's name in quotes": ((b"ID", b'"SHOW_CONFIG"', b"7", b"1"), "must be a JSON list"),
    "nearly a command": ((b"ID", b"show_config", b"7", b"1"), "neither a command nor JSON"),
    "not UTF-8": ((b"ID", b'["\xff\xfe"]', b"7", b"1"), "neither a command nor JSON"),
    "an object": ((b"ID", b'{"a": 1}', b"7", b"1"), "must be a JSON list"),
    "nothing": ((b"ID", b"[]", b"7", b"0"), "empty"),
    "fewer rows": ((b"ID", b'["a"]', b"7", b"2"), "2 rows, but has 1"),
    "a number": ((b"ID", b'["a", 5]', b"7", b"2"), "text 1 must be a string"),
    "a mixture": ((b"ID", b'["a", ["b"]]', b"7", b"2"), "text 1"),
    "a number as token": ((b"ID", b'[["b", 1]]', b"7", b"1"), "token 1"),
    "rows in words": ((b"ID", b'["a"]', b"7", b"one"), "number of rows"),
    "deep nesting": ((b"ID", b"[" * 100000, b"7", b"1"), "neither a command nor JSON"),
    "a header that is none": ((b"ID", b'["a"]', b"7", b"1", b"["), "header"),
    "a timeout in words": ((b"ID", b'["a"]', b"7", b"1", b'{"timeout": "x"}'), "timeout"),
    "100 MB of garbage": ((b"ID", b"\x93" * 100000000, b"7", b"1"), "neither a command nor JSON"),
}

UNANSWERABLE: "dict[str, Tuple[bytes, ...]]" = {
    "one frame": (b"x",),
    "nothing at all": (b"",),
    "no request id": (b"ID", b'["a"]', b"seven", b"1"),
    "no identity": (b"", b'["a"]', b"7", b"1"),
    "NUL in the identity": (b"a\0b", b'["a"]', b"7", b"1"),
    "a long identity": (b"i" * 300, b'["a"]', b"7", b"1"),
}


def malformed_count(client: BertClient) -> int:
    count: int = client.server_status["statistic"]["num_error"].get("malformed", 0)
    return count


@pytest.mark.parametrize("case", sorted(ANSWERED))
def test_the_sender_gets_an_error(echo_server: BertServer, connect: Connect, case: str) -> None:
    frames, message = ANSWERED[case]
    observer = connect()
    before = malformed_count(observer)
    with RawClient(echo_server) as sender:
        sender.send(*[sender.identity if frame == b"ID" else frame for frame in frames])
        _, info, array, request_id = sender.receive()
    assert request_id == b"7"
    error = json.loads(info.decode("utf-8"))
    assert error["error"]["kind"] == "bad_request"
    assert message in error["error"]["message"]
    assert len(error["error"]["message"]) < 500
    # A 1.10 client does this with a reply, and raises to its caller.
    with pytest.raises((TypeError, ValueError), match="bad_request"):
        np.frombuffer(memoryview(array), dtype=str(error["dtype"]))
    assert malformed_count(observer) == before + 1
    assert observer.encode(["still there"]).shape == (1, 768)


@pytest.mark.parametrize("case", sorted(UNANSWERABLE))
def test_others_are_not_disturbed(echo_server: BertServer, connect: Connect, case: str) -> None:
    observer = connect()
    before = malformed_count(observer)
    with RawClient(echo_server) as sender:
        sender.send(*UNANSWERABLE[case])
        # The same connection still serves: its next request is answered.
        sender.send(sender.identity, b'["hello"]', b"8", b"1")
        assert sender.receive()[3] == b"8"
    assert malformed_count(observer) == before + 1


def any_text(random: Random) -> str:
    """Of ASCII, accents, controls, CJK, lone surrogates and emoji."""
    ranges = [(0x20, 0x7F), (0, 0x300), (0x4E00, 0x4F00), (0xD800, 0xE000), (0x1F600, 0x1F650)]
    length = random.randrange(30)
    return "".join(chr(random.randrange(*random.choice(ranges))) for _ in range(length))


def any_value(random: Random, depth: int = 0) -> Any:
    """Of what JSON can say, mostly something like a list of texts."""
    if depth > 3 or random.random() < 0.4:
        odd = [float("nan"), float("inf"), 10**400, -1, None, True, "a ||| b", " ||| ", ["|||"]]
        return any_text(random) if random.random() < 0.7 else random.choice(odd)
    if random.random() < 0.1:
        return {any_text(random): any_value(random, depth + 1)}
    return [any_value(random, depth + 1) for _ in range(random.randrange(5))]


def any_frames(random: Random, identity: bytes, number: int) -> List[bytes]:
    value = any_value(random)
    payload = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if random.random() < 0.2:
        payload[random.randrange(len(payload))] = random.randrange(256)
    rows = len(value) if isinstance(value, list) else random.randrange(3)
    odd_ids = [b"", b"-1", b"9" * 25, b"1e3"]
    frames = [
        identity if random.random() < 0.9 else any_text(random).encode("utf-8", "replace"),
        bytes(payload),
        b"%d" % number if random.random() < 0.9 else random.choice(odd_ids),
        b"%d" % rows,
    ]
    if random.random() < 0.3:
        keys = ["timeout", "again", "pooling_strategy", "pooling_layer", "normalize", "truncate"]
        keys += ["dtype", "pairs", "tokens", "offsets", "stream", "other"]
        values = [1e-9, 1e999, 10**400, "1", None, [1], True, False, "NONE", "left", "float16", -2]
        header = {random.choice(keys): random.choice(values) for _ in range(random.randrange(3))}
        frames.append(json.dumps(header).encode("ascii"))
    return frames[: random.randrange(1, 6)] if random.random() < 0.1 else frames


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_the_service_goes_on(
    echo_server: BertServer, connect: Connect, seed: int
) -> None:
    random = Random(seed)
    observer = connect(timeout=PATIENCE * 1000)
    with RawClient(echo_server) as sender:
        for number in range(1500):
            sender.send(*any_frames(random, sender.identity, number))
            while sender.receiver.poll(0):
                sender.receiver.recv_multipart()
        # Sent last on the same connection, answered after all of it was read.
        sender.send(sender.identity, b'["the end"]', b"123456", b"1")
        while sender.receive()[-1] != b"123456":
            pass
    assert observer.encode(["still there"]).shape == (1, 768)
    assert "internal" not in observer.server_status["statistic"]["num_error"]


def test_subscribing_to_everything_reads_nothing(echo_server: BertServer, connect: Connect) -> None:
    client = connect(identity=b"somebody")
    context = zmq.Context()
    spies = []
    for prefix in (b"", b"s", b"somebod", b"somebody\0"):
        spy = context.socket(zmq.SUB)
        spy.setsockopt(zmq.LINGER, 0)
        spy.setsockopt(zmq.SUBSCRIBE, prefix)
        spy.connect("tcp://127.0.0.1:%d" % echo_server.spec.port_out)
        spies.append(spy)
    # Once another subscription made later is served, the spies' have long arrived.
    with RawClient(echo_server) as late:
        late.send(late.identity, b"SHOW_CONFIG", b"1", b"0")
        late.receive()
    for _ in range(3):
        client.encode(["secret"])
    assert [spy.poll(100) for spy in spies] == [0, 0, 0, 0]
    for spy in spies:
        spy.close()
    context.term()


def test_messages_to_the_port_for_results(echo_server: BertServer, connect: Connect) -> None:
    """They are neither subscriptions nor the end of somebody else's."""
    client = connect(identity=b"somebody")
    context = zmq.Context()
    sender = context.socket(zmq.XSUB)
    sender.setsockopt(zmq.LINGER, 0)
    sender.connect("tcp://127.0.0.1:%d" % echo_server.spec.port_out)
    sender.send(b"\1" + b"me")
    for frames in ([b"xsomebody"], [b""], [b"\2", b"more"], [b"\xff" * 1000]):
        sender.send_multipart(frames)
    # The same connection reads its own replies after all of that was read.
    with RawClient(echo_server, identity=b"other") as asker:
        asker.send(b"me", b"SHOW_CONFIG", b"1", b"0")
        assert sender.poll(PATIENCE * 1000)
    assert client.encode(["still there"]).shape == (1, 768)
    sender.close()
    context.term()


def test_a_slow_reader_keeps_nobody_waiting(echo_server: BertServer, connect: Connect) -> None:
    texts = json.dumps(["some text"] * 500).encode("ascii")
    with RawClient(echo_server) as slow:
        for number in range(200):
            slow.send(slow.identity, texts, b"%d" % number, b"500")
        other: Any = connect()
        for _ in range(20):
            assert other.encode(["quick"]).shape == (1, 768)
        received = {int(slow.receive()[3]) for _ in range(200)}
    assert received == set(range(200))
