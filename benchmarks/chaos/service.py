"""The service under test, as a process of its own, and what can be done to its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Dict, List, Optional

import psutil

from bert_serving.benchmarks.chaos.faults import MARKS
from bert_serving.benchmarks.chaos.texts import MAX_LENGTH
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.startup import free_ports
from bert_serving.benchmarks.wire import Target
from bert_serving.server.engines.faults import VARIABLE

__all__ = ["Service"]

START = "import sys; from bert_serving.server.cli import start; sys.exit(start(sys.argv[1:]))"
#: Seconds for the service to start, to be whole again, and to stop.
START_SECONDS, REPAIR_SECONDS, STOP_SECONDS = 60.0, 60.0, 60.0
#: Seconds between two looks at processes that nobody announces.
LOOK = 0.05


class Service:
    """bert-serving-start with the echo engine and HTTP; its log goes to a file."""

    def __init__(self, log: Path, workers: int, *flags: str) -> None:
        (port, port_out), (self.http_port, _) = free_ports(), free_ports()
        self.target = Target("127.0.0.1", port, port_out)
        self._workers = workers
        self._log = log
        words = ["-engine", "echo", "-max_seq_len", str(MAX_LENGTH), "-num_worker", str(workers)]
        words += ["-port", str(port), "-port_out", str(port_out)]
        words += ["-http_port", str(self.http_port), "-http_max_connect", "64", *flags]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(os.environ, **{VARIABLE: " ".join(map("=".join, MARKS.values()))}),
            )
        self._supervisor = psutil.Process(self._process.pid)
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while b"BertClient(" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self._log.read_text(errors="replace")
                self._process.kill()
                raise BenchmarkError("the service didn't start:\n%s" % text)
            time.sleep(LOOK)

    def processes(self) -> Dict[str, psutil.Process]:
        """The service's own processes, by name; those that are just dying are left out."""
        found = {}
        for child in self._supervisor.children() if self.is_running else ():
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[child.cmdline()[-1]] = child
            except (psutil.Error, IndexError):
                continue  # it ended meanwhile
        return found

    def victim(self, role: str, random: Random) -> Optional[psutil.Process]:
        """A process of a role; None if there is none now."""
        processes = self.processes()
        names = sorted(name for name in processes if name.startswith(role))
        return processes[random.choice(names)] if names else None

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def is_whole(self) -> bool:
        """Whether every process is there and runs."""
        processes = self.processes()
        names = {"sink", "ventilator", "http"} | {
            "worker-%d" % number for number in range(self._workers)
        }
        try:
            stopped = [p for p in processes.values() if p.status() == psutil.STATUS_STOPPED]
        except psutil.Error:
            return False
        return set(processes) == names and not stopped

    def await_whole(self) -> bool:
        """Wait until every process is there again; whether that came."""
        deadline = time.monotonic() + REPAIR_SECONDS
        while not self.is_whole():
            if time.monotonic() > deadline or not self.is_running:
                return False
            time.sleep(LOOK)
        return True

    def descriptors(self) -> Dict[str, int]:
        """How many files each process has open, that of the supervisor included."""
        counts = {name: process.num_fds() for name, process in self.processes().items()}
        counts["supervisor"] = self._supervisor.num_fds()
        return counts

    def resident(self) -> Dict[str, int]:
        """Bytes of memory of each process."""
        sizes = {name: process.memory_info().rss for name, process in self.processes().items()}
        sizes["supervisor"] = self._supervisor.memory_info().rss
        return sizes

    def stop(self) -> Optional[int]:
        """Stop it in order; its exit status, None if it had to be killed."""
        before: List[psutil.Process] = self._supervisor.children() if self.is_running else []
        self._process.send_signal(signal.SIGTERM)
        try:
            status: Optional[int] = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
            self._process.kill()
            self._process.wait()
        _, alive = psutil.wait_procs(before, timeout=5)
        for process in alive:
            process.kill()
        return None if alive else status

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
