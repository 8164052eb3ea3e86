from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq.auth

from bert_serving.client.curve import public_key_of, read_keys
from bert_serving.server.curve import CLIENTS, ClientKeys
from bert_serving.server.keygen import main, make_client_keys, make_server_keys


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_server_s_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "keys")
    private, public = make_server_keys(folder)
    assert (mode(folder), mode(private)) == (0o700, 0o600)
    assert mode(os.path.join(folder, CLIENTS)) == 0o700
    assert zmq.auth.load_certificate(private)[0] == zmq.auth.load_certificate(public)[0]
    assert zmq.auth.load_certificate(public)[1] is None
    assert "secret-key" not in Path(public).read_text()


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private, _ = make_server_keys(str(tmp_path))
        own, _ = make_client_keys(str(tmp_path), "me")
    finally:
        os.umask(before)
    assert (mode(private), mode(own)) == (0o600, 0o600)


def test_a_client_made_at_the_server_is_let_in(tmp_path: Path) -> None:
    folder = str(tmp_path)
    _, public = make_server_keys(folder)
    private, admitted = make_client_keys(folder, "me")
    keys = read_keys(private)
    assert keys.server == public_key_of(public)
    assert admitted == os.path.join(folder, CLIENTS, "me.key")
    assert ClientKeys(os.path.join(folder, CLIENTS)).read() == {keys.public}


def test_a_client_made_elsewhere(tmp_path: Path) -> None:
    _, public = make_server_keys(str(tmp_path / "server"))
    private, own = make_client_keys(str(tmp_path / "client"), "me", public)
    assert own == str(tmp_path / "client" / "me.key")
    assert read_keys(private).server == public_key_of(public)
    private, _ = make_client_keys(str(tmp_path / "client"), "you", public_key_of(public))
    assert read_keys(private).server == public_key_of(public)
    private, _ = make_client_keys(str(tmp_path / "client"), "they")
    with pytest.raises(ValueError, match="doesn't say which key the server has"):
        read_keys(private)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for make in (lambda: make_server_keys(folder), lambda: make_client_keys(folder, "me")):
        paths = make()
        before = [Path(path).read_text() for path in paths]
        with pytest.raises(FileExistsError):
            make()
        os.remove(paths[0])
        with pytest.raises(FileExistsError):
            make()
        assert Path(paths[1]).read_text() == before[1]
        assert not os.path.exists(paths[0])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "me.key_secret").symlink_to(target)
    with pytest.raises(FileExistsError):
        make_client_keys(str(tmp_path), "me")
    assert not target.exists()


@pytest.mark.parametrize("name", ["", "server", "../me", "a/b", ".hidden", "-x", "a b", "ü"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a client's name must be"):
        make_client_keys(str(tmp_path), name)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path)
    assert main([folder]) == 0
    assert main([folder, "--client", "me"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2:] == [
        "wrote %s/me.key_secret" % folder,
        "wrote %s/clients/me.key" % folder,
    ]
    assert read_keys(tmp_path / "me.key_secret").secret not in out
    assert main([folder]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert main([folder, "--client", "a/b"]) == 2
    assert main([folder, "--client", "you", "--server_key", "absent"]) == 2
    assert "can't read the key file absent" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([folder, "--server_key", "x"])
