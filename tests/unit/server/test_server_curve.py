from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE
from unit.server.support import Hub

from bert_serving.server.curve import BURST, Admissions, ClientKeys, Gate, peer_key
from bert_serving.server.spec import CurveSpec


def new_pair() -> Tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode("ascii"), secret.decode("ascii")


def key_file(key: str) -> str:
    return 'metadata\ncurve\n    public-key = "%s"\n' % key


# ---------------------------------------------------------------------------- the folder


def test_keys_are_read_again_when_they_change(tmp_path: Path) -> None:
    one, other = new_pair()[0], new_pair()[0]
    keys = ClientKeys(str(tmp_path))
    assert keys.read() == frozenset()
    (tmp_path / "one.key").write_text(key_file(one))
    (tmp_path / "notes.txt").write_text(key_file(other))
    assert keys.read() == {one}
    (tmp_path / "other.key").write_text(key_file(other))
    assert keys.read() == {one, other}
    (tmp_path / "one.key").unlink()
    assert keys.read() == {other}
    replacement = tmp_path / "new"
    replacement.write_text(key_file(one))
    os.replace(str(replacement), str(tmp_path / "other.key"))
    assert keys.read() == {one}


def test_a_file_that_is_no_key_is_told_once(tmp_path: Path, log: Any) -> None:
    (tmp_path / "bad.key").write_text('public-key = "short"')
    (tmp_path / "empty.key").write_text("")
    (tmp_path / "bytes.key").write_bytes(b"\xff\xff")
    keys = ClientKeys(str(tmp_path))
    assert keys.read() == frozenset()
    lines = log.text.splitlines()
    assert len(lines) == 3
    assert all("nobody is let in by" in line for line in lines)
    assert keys.read() == frozenset()
    assert log.text == ""


def test_a_file_that_leads_nowhere_keeps_nobody_else_out(tmp_path: Path, log: Any) -> None:
    one, other = new_pair()[0], new_pair()[0]
    (tmp_path / "one.key").write_text(key_file(one))
    (tmp_path / "other.key").symlink_to(tmp_path / "elsewhere")
    keys = ClientKeys(str(tmp_path))
    for _ in range(3):
        assert keys.read() == {one}
    (line,) = log.text.splitlines()
    assert "nobody is let in by %s: it is gone" % (tmp_path / "other.key") in line
    (tmp_path / "elsewhere").write_text(key_file(other))
    assert keys.read() == {one, other}
    (tmp_path / "elsewhere").unlink()
    assert keys.read() == {one}


def test_a_file_that_is_taken_away_meanwhile_keeps_nobody_else_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moments when it is found and when it is looked at."""
    one, other = new_pair()[0], new_pair()[0]
    (tmp_path / "one.key").write_text(key_file(one))
    (tmp_path / "other.key").write_text(key_file(other))
    scandir = os.scandir

    @contextmanager
    def slow_scandir(folder: str) -> Iterator[Iterator[Any]]:
        with scandir(folder) as entries:
            found = list(entries)
        (tmp_path / "other.key").unlink()
        yield iter(found)

    monkeypatch.setattr(os, "scandir", slow_scandir)
    assert ClientKeys(str(tmp_path)).read() == {one}


def test_hidden_files_do_not_count(tmp_path: Path, log: Any) -> None:
    one, other = new_pair()[0], new_pair()[0]
    (tmp_path / "one.key").write_text(key_file(one))
    (tmp_path / ".other.key").write_text(key_file(other))
    (tmp_path / ".#one.key").symlink_to("me@here.1234:1700000000")  # as Emacs does
    assert ClientKeys(str(tmp_path)).read() == {one}
    assert log.text == ""


def test_a_folder_that_is_gone_lets_nobody_in(tmp_path: Path, log: Any) -> None:
    keys = ClientKeys(str(tmp_path / "clients"))
    for _ in range(3):
        assert keys.read() == frozenset()
    (line,) = log.text.splitlines()  # whoever connects could have it said again
    assert "can't read the clients' keys" in line


# ------------------------------------------------------------------------------ the gate


class Guarded:
    """A PULL socket behind a gate."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self._hub = hub
        self.public, secret = new_pair()
        self.own = new_pair()
        self.gate = Gate(hub.context, CurveSpec(str(folder), self.public, secret, *self.own))
        self.socket = hub.socket(zmq.PULL)
        self.gate.guard(self.socket)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def client(self, pair: Tuple[str, str]) -> zmq.Socket:
        client = self._hub.socket(zmq.PUSH)
        client.curve_publickey, client.curve_secretkey = (key.encode() for key in pair)
        client.curve_serverkey = self.public.encode()
        client.connect("tcp://127.0.0.1:%d" % self.port)
        return client

    def next_frame(self) -> zmq.Frame:
        """Answers questions until a message comes."""
        poller = zmq.Poller()
        poller.register(self.gate.socket, zmq.POLLIN)
        poller.register(self.socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(PATIENCE * 1000))
            assert ready, "nothing came"
            if self.gate.socket in ready:
                self.gate.answer()
            if self.socket in ready:
                return self.socket.recv(copy=False)


@pytest.fixture
def guarded(hub: Hub, tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(hub, tmp_path)
    yield made
    made.gate.close()


def test_who_is_known_gets_in_under_its_key(guarded: Guarded, tmp_path: Path) -> None:
    pair = new_pair()
    (tmp_path / "me.key").write_text(key_file(pair[0]))
    guarded.client(pair).send(b"hello")
    frame = guarded.next_frame()
    assert frame.bytes == b"hello"
    assert peer_key(frame) == pair[0]


def test_the_server_s_own_client_gets_in(guarded: Guarded) -> None:
    guarded.client(guarded.own).send(b"hello")
    assert peer_key(guarded.next_frame()) == guarded.own[0]


def test_who_is_not_known_stays_out(guarded: Guarded, tmp_path: Path, log: Any) -> None:
    stranger, friend = new_pair(), new_pair()
    (tmp_path / "friend.key").write_text(key_file(friend[0]))
    unknown = guarded.client(stranger)
    monitor = unknown.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    unknown.send(b"let me in")
    while not monitor.poll(0):
        if guarded.gate.socket.poll(10):
            guarded.gate.answer()
    unknown.disable_monitor()
    monitor.close()
    guarded.client(friend).send(b"hello")
    assert guarded.next_frame().bytes == b"hello"
    assert not guarded.socket.poll(0)
    text = log.text
    assert "warning: kept 127.0.0.1 out: its key is none of the clients'" in text
    assert "debug: the key of 127.0.0.1 was %s" % stranger[0] in text


def test_nobody_gets_in_while_nobody_answers(hub: Hub, tmp_path: Path) -> None:
    """ZeroMQ's own default is to let in everybody then."""
    guarded = Guarded(hub, tmp_path)
    guarded.gate.close()
    client = guarded.client(guarded.own)
    monitor = client.get_monitor_socket(
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_SUCCEEDED
    )
    event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
    client.disable_monitor()
    monitor.close()
    assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_questions_that_are_none(guarded: Guarded, hub: Hub) -> None:
    asker = hub.socket(zmq.REQ)
    asker.connect("inproc://zeromq.zap.01")
    for mechanism, credentials in ((b"NULL", []), (b"PLAIN", [b"a", b"b"]), (b"CURVE", [])):
        asker.send_multipart([b"1.0", b"7", b"", b"1.2.3.4", b"", mechanism] + credentials)
        assert guarded.gate.socket.poll(PATIENCE * 1000)
        guarded.gate.answer()
        assert asker.recv_multipart()[:3] == [b"1.0", b"7", b"400"]


class Endless:
    """A context, and its socket, at which there is always another question."""

    def __init__(self) -> None:
        self.asked, self.answered = 0, 0

    def socket(self, kind: int) -> Endless:
        return self

    def setsockopt(self, option: int, value: Any) -> None:
        pass

    def bind(self, endpoint: str) -> None:
        pass

    def poll(self, timeout: int) -> int:
        return 1

    def recv_multipart(self) -> List[bytes]:
        self.asked += 1
        assert self.asked <= 100 * BURST, "it never stops answering"
        return [b"1.0", b"7", b"", b"1.2.3.4", b"", b"CURVE", b"k" * 32]

    def send_multipart(self, frames: List[bytes]) -> None:
        self.answered += 1


def test_others_get_their_turn_though_some_never_stop_connecting(tmp_path: Path) -> None:
    endless: Any = Endless()
    gate = Gate(endless, CurveSpec(str(tmp_path), *new_pair(), *new_pair()))
    for turn in (1, 2):
        gate.answer()
        assert endless.asked == endless.answered == turn * BURST


def test_who_is_kept_out_does_not_fill_the_log(tmp_path: Path, log: Any) -> None:
    endless: Any = Endless()
    Gate(endless, CurveSpec(str(tmp_path), *new_pair(), *new_pair())).answer()
    lines = [line for line in log.text.splitlines() if not line.startswith("debug: ")]
    assert lines == ["warning: kept 1.2.3.4 out: its key is none of the clients'"]


# ------------------------------------------------------------------------- subscriptions

ME, OTHER = "m" * 40, "o" * 40
MINE = ME.encode() + b":1"


def test_own_subscriptions_are_admitted() -> None:
    admissions = Admissions()
    assert admissions.admits(True, MINE, ME)
    assert admissions.admits(False, MINE, ME)
    assert admissions.admits(False, MINE, None)


def test_others_are_not() -> None:
    admissions = Admissions()
    assert not admissions.admits(True, MINE, OTHER)
    assert not admissions.admits(False, MINE, OTHER)
    assert not admissions.admits(True, MINE, None)


def test_the_end_of_a_spy_is_not_taken_for_the_owner_s() -> None:
    admissions = Admissions()
    assert admissions.admits(True, MINE, ME)
    assert not admissions.admits(True, MINE, OTHER)
    assert not admissions.admits(False, MINE, OTHER)  # by yet another connection
    assert not admissions.admits(False, MINE, None)  # the spy's connection is lost
    assert admissions.admits(False, MINE, None)  # the owner's


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([ME, OTHER])), max_size=20))
def test_whatever_others_do_no_more_ends_than_there_are(steps: Any) -> None:
    """Each connection subscribes once, and its loss is told at some time after that."""
    admissions = Admissions()
    listening, spies = 0, 0
    for begins, key in steps:
        if begins:
            listening += admissions.admits(True, MINE, key)
            spies += key == OTHER
        elif key == OTHER and spies:
            spies -= 1
            ended = admissions.admits(False, MINE, None)
            assert not ended
            listening -= ended
    assert listening == sum(begins and key == ME for begins, key in steps)
