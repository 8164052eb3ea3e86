"""The rivals' processes: started, waited for, and ended with all that they started."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.startup import free_ports
from bert_serving.benchmarks.wire import Target, Wire

__all__ = ["SERVED_NAME", "Runner", "bert_as_service", "infinity"]

#: What infinity calls the model that it serves.
SERVED_NAME = "model"
#: Seconds until a rival must be ready, and to exit when told.
READY_WITHIN, EXIT_WITHIN = 180.0, 10.0
#: How long a server is asked before its process is looked at again, in seconds.
ASK = 2.0
#: Characters of its log that tell why it died.
LAST_WORDS = 800


@contextmanager
def bert_as_service(
    place: Path, model: Path, scratch: Path, flags: Sequence[str] = ()
) -> Iterator[Target]:
    """A server of bert-as-service 1.10, ready to answer; ``model`` is in Google's layout.

    ``scratch`` is for its files, sockets and log. Raises BenchmarkError if it doesn't get ready.
    """
    port, port_out = free_ports()
    command = [str(place / "bin" / "python"), str(place / "bin" / "bert-serving-start")]
    command += ["-model_dir", str(model), "-num_worker", "1", "-cpu", *flags]
    command += ["-port", str(port), "-port_out", str(port_out), "-graph_tmp_dir", str(scratch)]
    target = Target("127.0.0.1", port, port_out)

    def is_ready() -> bool:
        with Wire(target, 1) as wire:
            try:
                wire.wait_until_ready(ASK)
            except BenchmarkError:
                return False
        return True

    # It is killed in the end, and would leave its sockets in the system's temporary directory.
    with _served(command, {"ZEROMQ_SOCK_TMP_DIR": str(scratch)}, scratch, is_ready):
        yield target


@contextmanager
def infinity(place: Path, model: Path, threads: int, scratch: Path) -> Iterator[int]:
    """A server of infinity-emb on PyTorch, ready to answer; yields its port.

    Raises BenchmarkError if it doesn't get ready.
    """
    port = free_ports()[0]
    command = [str(place / "bin" / "python"), str(place / "bin" / "infinity_emb"), "v2"]
    command += ["--model-id", str(model), "--served-model-name", SERVED_NAME]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", "float32"]
    # A line of log for each request would slow it down.
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    changes = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    changes["INFINITY_ANONYMOUS_USAGE_STATS"] = "0"

    def is_ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    with _served(command, changes, scratch, is_ready):
        yield port


@contextmanager
def _served(
    command: Sequence[str], changes: Dict[str, str], scratch: Path, is_ready: Callable[[], bool]
) -> Iterator[None]:
    """Run a server in ``scratch`` for the block."""
    log = scratch / "log"
    with open(str(log), "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=str(scratch),
            env=_environment(changes),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to be ended with what it started
        )
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(
                    "%s %s: %s"
                    % (
                        Path(command[1]).name,
                        "isn't ready after %g s" % READY_WITHIN
                        if process.returncode is None
                        else "ended with status %d" % process.returncode,
                        log.read_bytes().decode("utf-8", "replace").strip()[-LAST_WORDS:],
                    )
                )
            # Where the port is closed yet, asking takes no time.
            _wait(process, 0.2)
        yield
    finally:
        _end(process)


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether the process ends within ``seconds``."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    _wait(process, EXIT_WITHIN)
    try:
        os.killpg(process.pid, signal.SIGKILL)  # what is left of it, be it nothing
    except ProcessLookupError:
        return
    process.wait()


def _environment(changes: Dict[str, str]) -> Dict[str, str]:
    """This process's, without what would show the rival our packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return dict({k: v for k, v in os.environ.items() if k not in hidden}, **changes)


class Runner:
    """A script in a rival's environment that times what it is told to, a line of JSON at a time.

    See :mod:`bert_serving.benchmarks.rivals.sentence_transformers_runner`.
    """

    def __init__(self, place: Path, script: Path, order: Dict[str, Any]) -> None:
        """Start it; returns when it is ready. Raises BenchmarkError if it can't get so."""
        changes = {"OMP_NUM_THREADS": str(order["threads"]), "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [str(place / "bin" / "python"), str(script)],
            env=_environment(changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._ask(order)
        except BaseException:
            self.close()
            raise

    def seconds(self) -> float:
        """How long it takes it to do its work once. Raises BenchmarkError if it died."""
        return float(self._ask({"run": True})["seconds"])

    def _ask(self, what: Dict[str, Any]) -> Dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(what).encode("ascii") + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise BenchmarkError("the rival's process ended with %d" % self._process.wait())
        answer: Dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it: it stops at the end of its input."""
        self._process.communicate()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
