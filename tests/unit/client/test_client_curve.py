from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Tuple

import pytest
import zmq
import zmq.auth

from bert_serving.client import BertClient, ConnectionFailed, RequestTimeout, connection, curve
from bert_serving.client.curve import (
    Keys,
    bound_identity,
    check_supported,
    is_bound,
    parse_keys,
    public_key_of,
    read_keys,
)
from bert_serving.client.protocol import MAX_IDENTITY_BYTES

PUBLIC = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
SECRET = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
SERVER = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


def pair(public: str = PUBLIC, secret: str = SECRET, server: str = "") -> str:
    lines = ["# a comment", "metadata", "curve", '    public-key = "%s"' % public]
    lines.append('    secret-key = "%s"' % secret)
    if server:
        lines.append('    server-key = "%s"' % server)
    return "\n".join(lines)


def test_a_file_with_all_that_a_client_needs(tmp_path: Path) -> None:
    path = tmp_path / "me.key_secret"
    path.write_text(pair(server=SERVER))
    for name in (path, str(path)):
        assert read_keys(name) == Keys(PUBLIC, SECRET, SERVER)
    keys = Keys(PUBLIC, SECRET, SERVER)
    assert read_keys(keys) is keys


def test_files_of_zmq_auth(tmp_path: Path) -> None:
    own = zmq.auth.create_certificates(str(tmp_path), "me")
    server = zmq.auth.create_certificates(str(tmp_path), "server")
    keys = read_keys(own[1], server[0])
    public, secret = zmq.auth.load_certificate(own[1])
    assert (keys.public.encode(), keys.secret.encode()) == (public, secret)
    assert keys.server.encode() == zmq.auth.load_certificate(server[0])[0]


def test_the_server_s_key_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "me.key_secret"
    path.write_text(pair())
    assert read_keys(path, SERVER).server == SERVER
    assert public_key_of(path) == PUBLIC


def test_secrets_are_in_no_text_of_the_object() -> None:
    assert SECRET not in repr(Keys(PUBLIC, SECRET, SERVER))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no pair of keys"),
        ('public-key = "%s"' % PUBLIC, "has no pair of keys"),
        (pair(), "doesn't say which key the server has"),
        (pair(public="short"), "must have 40 characters of Z85, but has 5"),
        (pair(secret=SECRET[:-1] + "~"), "the secret-key in the key file"),
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "me.key_secret"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_keys(path)
    assert str(path) in str(raised.value)
    assert SECRET[:-1] not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can't read the key file .*No such file"):
        read_keys(tmp_path / "absent")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is no text"):
        read_keys(tmp_path / "bytes")
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match="has no public key"):
        public_key_of(tmp_path / "empty")
    wrong: Any = 5
    with pytest.raises(TypeError, match="keys must be the path"):
        read_keys(wrong)
    with pytest.raises(TypeError, match="server_key must be"):
        public_key_of(wrong)


def test_without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    check_supported()
    monkeypatch.setattr(curve.zmq, "has", lambda name: name != "curve")
    with pytest.raises(ValueError, match="built without it: pip install"):
        BertClient(keys=Keys(PUBLIC, SECRET, SERVER), ignore_all_checks=True)


def test_identities_belong_to_a_key() -> None:
    bound = bound_identity(PUBLIC, b"me")
    assert bound == PUBLIC.encode() + b":me"
    assert bound_identity(PUBLIC, bound) == bound
    assert is_bound(bound, PUBLIC)
    assert not is_bound(bound, SERVER)
    assert not is_bound(b"me", PUBLIC)
    assert not is_bound(PUBLIC.encode(), PUBLIC)
    assert not is_bound(b":me", "")
    assert len(bound_identity(PUBLIC, b"x" * 213)) == MAX_IDENTITY_BYTES
    with pytest.raises(ValueError, match="at most 213 bytes where keys are used"):
        bound_identity(PUBLIC, b"x" * 214)


def test_the_client_s_identity_has_its_key() -> None:
    keys = Keys(PUBLIC, SECRET, SERVER)
    with BertClient(keys=keys, ignore_all_checks=True) as client:
        assert is_bound(client.identity, PUBLIC)
    with BertClient(keys=keys, identity="me", ignore_all_checks=True) as client:
        assert client.identity == PUBLIC.encode() + b":me"
    with pytest.raises(ValueError, match="server_key needs a key file of the client's own"):
        BertClient(server_key=SERVER)


def test_keys_are_parsed_in_any_order() -> None:
    assert parse_keys("  secret-key='%s'\n public-key=%s" % (SECRET, PUBLIC), "x") == {
        "public-key": PUBLIC,
        "secret-key": SECRET,
    }


@pytest.fixture
def plain() -> Iterator[Tuple[int, int]]:
    """The ports of a server without keys that answers nothing."""
    with zmq.Context() as context, context.socket(zmq.PULL) as requests, context.socket(
        zmq.XPUB
    ) as replies:
        requests.linger = replies.linger = 0
        ports = [one.bind_to_random_port("tcp://127.0.0.1") for one in (requests, replies)]
        yield ports[0], ports[1]


def test_keys_for_a_server_without_any(
    plain: Tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SUSPICIOUS", 1)  # a slow machine tries less often
    # Which one depends on who reads first what the other speaks.
    message = "started without -curve, so leave out the keys|was it started with -curve"
    with pytest.raises((ConnectionFailed, RequestTimeout), match=message):
        BertClient("127.0.0.1", *plain, keys=Keys(PUBLIC, SECRET, SERVER), timeout=3000)


def test_a_server_that_does_not_answer_may_have_another_key(
    plain: Tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SUSPICIOUS", 1)  # a slow machine tries less often
    with zmq.Context() as context, context.socket(zmq.PULL) as other:
        other.curve_server, other.curve_secretkey = True, SECRET.encode()
        port = other.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(RequestTimeout, match="is server_key its key"):
            BertClient("127.0.0.1", port, port, keys=Keys(PUBLIC, SECRET, SERVER), timeout=3000)
