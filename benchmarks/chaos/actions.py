"""Doing what a plan says."""

from __future__ import annotations

import signal
import threading
import uuid
from random import Random
from typing import Callable, Dict, List

import psutil
import zmq

from bert_serving.benchmarks.chaos.clients import TIMEOUT
from bert_serving.benchmarks.chaos.faults import MARKS, Fault
from bert_serving.benchmarks.chaos.relay import Relay
from bert_serving.benchmarks.chaos.service import Service
from bert_serving.benchmarks.chaos.tally import Tally
from bert_serving.benchmarks.chaos.texts import Texts
from bert_serving.client import BertClient, BertServingError, WorkerFailed
from bert_serving.client.frames import encode_texts

__all__ = ["Actions"]

#: Seconds that a paused process stops for, and that a deaf client stays.
PAUSE, DEAF = 0.5, 3.0
#: What a deaf client asks for: so many requests of so many texts.
DEAF_REQUESTS, DEAF_ROWS = 50, 200


class Actions:
    """Does faults; some go on for a while, in threads that :meth:`close` waits for."""

    def __init__(self, service: Service, relays: List[Relay], tally: Tally, random: Random) -> None:
        self._service = service
        self._relays = relays
        self._tally = tally  # of requests that a worker has to fail on
        self._random = random
        self._over = threading.Event()
        self._threads: List[threading.Thread] = []
        self._signals: Dict[str, int] = {
            "kill": signal.SIGKILL,
            "segfault": signal.SIGSEGV,
            "freeze": signal.SIGSTOP,
        }

    def perform(self, fault: Fault) -> bool:
        """Let it happen; False if there is nobody to whom it could."""
        if fault.target == "text":
            self._run(lambda: self._send_mark(fault.kind))
        elif fault.kind == "cut":
            for relay in self._relays:
                relay.cut()
        elif fault.kind == "deaf":
            self._run(self._be_deaf)
        else:
            return self._hit(fault)
        return True

    def _hit(self, fault: Fault) -> bool:
        victim = self._service.victim(fault.target, self._random)
        if victim is None:
            return False
        try:
            if fault.kind == "pause":
                victim.send_signal(signal.SIGSTOP)
                self._run(lambda: self._resume(victim))
            else:
                victim.send_signal(self._signals[fault.kind])
        except psutil.NoSuchProcess:
            return False
        return True

    def _resume(self, victim: psutil.Process) -> None:
        self._over.wait(PAUSE)
        try:
            victim.send_signal(signal.SIGCONT)
        except psutil.NoSuchProcess:
            return  # another fault has killed it

    def _send_mark(self, kind: str) -> None:
        """A text that makes a worker fail, and its request with it; or that is slow."""
        texts = Texts(self._random.randrange(2**32))
        request = [*texts.draw()[:3], MARKS[kind][0], *texts.draw()[:3]]
        target = self._service.target
        with self._tally.request() as tell, BertClient(
            port=target.port, port_out=target.port_out, ignore_all_checks=True
        ) as client:
            try:
                vectors = client.encode(request, timeout=2 * TIMEOUT, truncate="right")
            except WorkerFailed:
                tell("wrong" if kind == "slow" else "right")
            except BertServingError as error:
                tell(type(error).__name__)
            else:
                is_right = kind == "slow" and texts.is_right(request, vectors)
                tell("right" if is_right else "wrong")

    def _be_deaf(self) -> None:
        """Ask for much, and read nothing."""
        identity = uuid.uuid4().hex.encode("ascii")
        payload = encode_texts(["a text that nobody reads"] * DEAF_ROWS)
        target = self._service.target
        with zmq.Context() as context, context.socket(zmq.PUSH) as sender, context.socket(
            zmq.SUB
        ) as receiver:
            for socket, port in ((sender, target.port), (receiver, target.port_out)):
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.RCVHWM, 1)
                socket.connect("tcp://127.0.0.1:%d" % port)
            receiver.setsockopt(zmq.SUBSCRIBE, identity)
            for number in range(DEAF_REQUESTS):
                sender.send_multipart([identity, payload, b"%d" % number, b"%d" % DEAF_ROWS])
            self._over.wait(DEAF)

    def _run(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def close(self, seconds: float) -> bool:
        """End what goes on; whether all of it did within that time each."""
        self._over.set()
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)
