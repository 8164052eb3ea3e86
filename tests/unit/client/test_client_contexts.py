from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import List

import pytest
from support import PATIENCE

from bert_serving.client import contexts


def test_it_is_shared_and_ends_with_the_last() -> None:
    first = contexts.acquire()
    assert contexts.acquire() is first
    contexts.release()
    assert not first.closed
    contexts.release()
    assert first.closed
    again = contexts.acquire()
    assert again is not first
    assert not again.closed
    contexts.release()


def test_threads_may_come_and_go() -> None:
    closed: List[bool] = []

    def use() -> None:
        for _ in range(50):
            closed.append(contexts.acquire().closed)
            contexts.release()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert closed == [False] * 400


# In a process of its own: newer Pythons warn of every fork beside threads.
FORK = """
import os
import zmq
from bert_serving.client import contexts
context = contexts.acquire()
with contexts._shared.lock:
    child = os.fork()
    if child == 0:
        own = contexts.acquire()
        assert own is not context
        with own.socket(zmq.PAIR) as one, own.socket(zmq.PAIR) as other:
            one.bind("inproc://x")
            other.connect("inproc://x")
            other.send(b"heard")
            assert one.recv() == b"heard"
        contexts.release()
        os._exit(0 if own.closed else 1)
assert os.waitpid(child, 0)[1] == 0
assert not context.closed
contexts.release()
assert context.closed
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_a_forked_child_has_one_of_its_own_though_the_lock_was_held() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], timeout=PATIENCE)
    assert done.returncode == 0
