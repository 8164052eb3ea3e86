"""With -curve: who gets in, and that nobody gets or sends what is another's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, Tuple

import numpy as np
import psutil
import pytest
import zmq
from support import (
    PATIENCE,
    RawClient,
    client_of,
    command,
    environment,
    http_flags,
    port_flags,
    run_start,
    running,
    url_of,
)

from bert_serving.benchmarks.cli import main as benchmark
from bert_serving.client import (
    AsyncBertClient,
    BertClient,
    ConcurrentBertClient,
    ConnectionFailed,
    RequestTimeout,
    connection,
)
from bert_serving.client.bulk.cli import main as encode_file
from bert_serving.client.curve import Keys, bound_identity, read_keys
from bert_serving.server import BertServer
from bert_serving.server.keygen import make_client_keys, make_server_keys

TIMEOUT = PATIENCE * 1000
#: Which one depends on who is faster: the client that reads what the server speaks, or the server
#: that reads what the client does, and closes.
KEPT_OUT = (ConnectionFailed, RequestTimeout)


@dataclass
class Guarded:
    server: BertServer
    folder: str

    def new_client(self, name: str) -> str:
        """The key file of a client that is let in."""
        return make_client_keys(self.folder, name)[0]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = str(tmp_path_factory.mktemp("keys"))
    make_server_keys(folder)
    for name in ("alice", "mallory"):
        make_client_keys(folder, name)
    with running("-engine", "echo", "-curve", folder, *http_flags()) as server:
        yield Guarded(server, folder)


@pytest.fixture
def alice(guarded: Guarded) -> Iterator[BertClient]:
    keys = os.path.join(guarded.folder, "alice.key_secret")
    with client_of(guarded.server, keys=keys, identity="alice", timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def mallory(guarded: Guarded) -> Keys:
    """Of somebody who is let in, and wants what is alice's."""
    return read_keys(os.path.join(guarded.folder, "mallory.key_secret"))


def test_who_has_a_key_is_served(guarded: Guarded, alice: BertClient) -> None:
    vectors = alice.encode(["hello"])
    assert vectors.shape == (1, 768)
    assert alice.server_config["curve"] is True
    keys = os.path.join(guarded.folder, "alice.key_secret")
    with ConcurrentBertClient(
        2, port=guarded.server.spec.port, port_out=guarded.server.spec.port_out, keys=keys
    ) as pool:
        np.testing.assert_array_equal(pool.encode(["hello"]), vectors)


def test_with_asyncio(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SUSPICIOUS", 1)  # a slow machine tries less often
    spec = guarded.server.spec
    ports = {"port": spec.port, "port_out": spec.port_out, "timeout": TIMEOUT}

    async def ask() -> Tuple[int, ...]:
        keys = os.path.join(guarded.folder, "alice.key_secret")
        async with AsyncBertClient(keys=keys, **ports) as client:
            return tuple((await client.encode(["hello"])).shape)

    async def ask_without() -> None:
        async with AsyncBertClient(**dict(ports, timeout=3000)):
            pass

    assert asyncio.run(ask()) == (1, 768)
    with pytest.raises(KEPT_OUT, match=r"was it started with -curve|it was started with -curve"):
        asyncio.run(ask_without())


def test_who_has_none_is_not(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SUSPICIOUS", 1)  # a slow machine tries less often
    with pytest.raises(KEPT_OUT, match=r"was it started with -curve|it was started with -curve"):
        client_of(guarded.server, timeout=3000)
    with RawClient(guarded.server) as silent:
        silent.send(silent.identity, b"SHOW_CONFIG", b"1", b"0")
        assert not silent.receiver.poll(300)


def test_keys_are_added_and_taken_away_while_it_runs(guarded: Guarded) -> None:
    path = guarded.new_client("guest")
    public = os.path.join(guarded.folder, "clients", "guest.key")
    for _ in range(2):
        with client_of(guarded.server, keys=path, timeout=TIMEOUT) as client:
            assert client.encode(["hello"]).shape == (1, 768)
        os.rename(public, public + ".off")
        with pytest.raises(ConnectionFailed, match="it doesn't know the key"):
            client_of(guarded.server, keys=path, timeout=TIMEOUT)
        os.rename(public + ".off", public)


def test_http_has_a_key_of_its_own(guarded: Guarded) -> None:
    body = json.dumps({"texts": ["hello"]}).encode()
    request = urllib.request.Request(url_of(guarded.server) + "/encode", body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert len(json.load(answer)["result"][0]) == 768


# ----------------------------------------------------------------------------- identities


def spoofed(client: BertClient) -> int:
    count: int = client.server_status["statistic"]["num_error"].get("spoofed", 0)
    return count


def test_nobody_reads_another_s_replies(guarded: Guarded, alice: BertClient, mallory: Keys) -> None:
    with RawClient(guarded.server, alice.identity, mallory) as spy:
        for prefix in (b"", alice.identity[:10], alice.identity + b"\0"):
            spy.receiver.setsockopt(zmq.SUBSCRIBE, prefix)
        # Once a subscription that is made later is served, the others have arrived.
        own = bound_identity(mallory.public, b"own")
        spy.receiver.setsockopt(zmq.SUBSCRIBE, own)
        spy.send(own, b"SHOW_CONFIG", b"1", b"0")
        assert spy.receive()[0] == own + b"\0"
        for _ in range(3):
            alice.encode(["secret"])
        assert not spy.receiver.poll(200)


def test_nobody_sends_in_another_s_name(guarded: Guarded, alice: BertClient, mallory: Keys) -> None:
    """Also not what can't be read, whose error would come to the other one."""
    before = spoofed(alice)
    dropped = alice.dropped_replies
    number = b"%d" % (alice.request_id + 3)
    with RawClient(guarded.server, None, mallory) as other:
        other.send(alice.identity, b'["mine"]', number, b"1")
        other.send(alice.identity, b"no JSON", number, b"1")
        other.send(alice.identity, b'["mine"]', number)
        other.send(alice.identity, b"CANCEL", number, b"0")
        other.send(b"alice", b"SHOW_CONFIG", number, b"0")
        other.send(other.identity, b"SHOW_CONFIG", b"1", b"0")
        assert other.receive()[-1] == b"1"
        assert not other.receiver.poll(0)
    np.testing.assert_array_equal(alice.encode(["yours"]), alice.encode(["yours"]))
    assert spoofed(alice) == before + 4
    assert alice.dropped_replies == dropped


def test_a_spy_that_leaves_ends_nothing(guarded: Guarded, alice: BertClient, mallory: Keys) -> None:
    """Else the client would count as gone, and what it has asked for would be dropped."""
    texts = ["text %d" % number for number in range(3000)]
    alice.encode(texts, blocking=False)
    for number in range(3):
        with RawClient(guarded.server, alice.identity, mallory) as spy:
            own = bound_identity(mallory.public, b"own-%d" % number)
            spy.receiver.setsockopt(zmq.SUBSCRIBE, own)
            spy.receiver.setsockopt(zmq.UNSUBSCRIBE, alice.identity)
            spy.send(own, b"SHOW_CONFIG", b"1", b"0")
            spy.receive()
    assert alice.fetch_all()[0].shape == (3000, 768)
    assert alice.encode(["still there"]).shape == (1, 768)


def test_a_client_comes_back_after_a_restart(tmp_path: Path) -> None:
    make_server_keys(str(tmp_path))
    keys = make_client_keys(str(tmp_path), "me")[0]
    flags = ("-engine", "echo", "-curve", str(tmp_path))
    with running(*flags) as server:
        ports = ("-port", str(server.spec.port), "-port_out", str(server.spec.port_out))
        client = client_of(server, keys=keys, timeout=TIMEOUT)
        first = client.encode(["hello"])
    with client, running(*flags, *ports):
        np.testing.assert_array_equal(client.encode(["hello"]), first)


def test_the_other_commands_take_keys(
    guarded: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = guarded.server.spec
    keys = ["--keys", os.path.join(guarded.folder, "alice.key_secret")]
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    words = [str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.npy"), "--quiet"]
    words += ["--port", str(spec.port), "--port_out", str(spec.port_out)]
    assert encode_file(words + keys) == 0
    assert np.load(tmp_path / "out.npy").shape == (2, 768)
    connect = ["-connect", "127.0.0.1:%d:%d" % (spec.port, spec.port_out)]
    load = ["-load", "-rate", "20", "-seconds", "1", "-warm_up", "0.2", "-no_plots"]
    assert benchmark(connect + load + keys + ["-no_progress"]) == 0
    assert benchmark(connect + load + ["-keys", "absent", "-no_progress"]) != 0
    assert "can't read the key file absent" in capsys.readouterr().err


# -------------------------------------------------------------------------------- secrets


def test_no_secret_is_told(tmp_path: Path) -> None:
    """Neither logged with -verbose, nor in SHOW_STATUS, nor seen in the list of processes."""
    folder = tmp_path / "keys"
    make_server_keys(str(folder))
    keys = make_client_keys(str(folder), "me")[0]
    token, api_key = "token-" + "t" * 20, "apikey-" + "k" * 20
    (tmp_path / "api").write_text(api_key)
    words = port_flags() + ["-engine", "echo", "-verbose", "-curve", str(folder)]
    words += http_flags() + ["-http_api_key_file", str(tmp_path / "api")]
    process = subprocess.Popen(
        command("start") + words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(BERT_SERVING_ADMIN_TOKEN=token),
    )
    try:
        port, port_out = int(words[1]), int(words[3])
        with BertClient(port=port, port_out=port_out, keys=keys, timeout=TIMEOUT) as client:
            client.encode(["hello"])
            told = json.dumps([client.server_config, client.server_status])
        found = psutil.Process(process.pid)
        shown = [" ".join(one.cmdline()) for one in [found, *found.children(recursive=True)]]
        BertServer.shutdown(SimpleNamespace(ip="127.0.0.1", port=port, timeout=TIMEOUT, keys=keys))
        out, errors = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert "let 127.0.0.1 in" in errors
    secrets = [token, api_key, read_keys(keys).secret]
    secrets.append(read_keys(folder / "server.key_secret", read_keys(keys).server).secret)
    for secret in secrets:
        for text in (out, errors, told, *shown):
            assert secret not in text
    assert str(tmp_path) not in told


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    failed = run_start("-engine", "echo", "-curve", str(tmp_path))
    assert failed.returncode == 2
    assert "error: can't read the server's keys" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_terminate_with_keys(tmp_path: Path) -> None:
    make_server_keys(str(tmp_path))
    keys = make_client_keys(str(tmp_path), "me")[0]
    with running("-engine", "echo", "-curve", str(tmp_path)) as server:
        args: Any = SimpleNamespace(ip="127.0.0.1", port=server.spec.port, timeout=500)
        with pytest.raises(TimeoutError, match="does it know the keys"):
            BertServer.shutdown(args)
        failed = subprocess.run(
            command("terminate") + ["-port", str(server.spec.port), "-keys", "absent"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert failed.returncode == 1
        assert failed.stderr == "error: can't read the key file absent: No such file or directory\n"
        args.keys, args.timeout = keys, TIMEOUT
        BertServer.shutdown(args)
        server.join(PATIENCE)
        assert not server.is_alive()
