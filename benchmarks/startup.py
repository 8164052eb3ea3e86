"""How soon a service is ready: ``python -m bert_serving.benchmarks.startup``.

Each start is a process of its own, timed from its beginning to the first vectors that a client
gets. "First" starts with the model fetched and no optimized graph, "cached" with both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional

from bert_serving.client import BertClient
from bert_serving.client.version import __version__
from bert_serving.graph_opt.cache import user_cache_dir
from bert_serving.server import models

__all__ = ["main"]


def main(argv: Optional[List[str]] = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.startup", description=__doc__)
    parser.add_argument("-model_dir", help="default: the default model")
    parser.add_argument("-num_worker", default="1", help="default: %(default)s")
    parser.add_argument("-repeat", type=int, default=5, help="starts of each kind (%(default)s)")
    args = parser.parse_args(argv)
    directory, name = models.resolve(args.model_dir, lambda remark: None)
    flags = ["-num_worker", args.num_worker]
    flags += ["-model_dir", str(directory)] if args.model_dir else []
    seconds: Dict[str, List[float]] = {"first": [], "cached": []}
    for _ in range(args.repeat):
        with tempfile.TemporaryDirectory() as cache:
            (Path(cache) / "models").symlink_to(user_cache_dir() / "models")
            # The first of these two finds an empty cache and fills it.
            seconds["first"].append(time_start(flags, cache))
            seconds["cached"].append(time_start(flags, cache))
    print(json.dumps(dict(describe_machine(), model=name, flags=flags), indent=1))
    print("\n| start | median s | fastest | slowest |\n|---|---|---|---|")
    for kind, values in seconds.items():
        row = (kind, statistics.median(values), min(values), max(values))
        print("| %s | %.2f | %.2f | %.2f |" % row)
    return 0


def time_start(flags: List[str], cache: str) -> float:
    """Seconds from starting a server to its first vectors."""
    ports = free_ports()
    command = [sys.executable, "-c", "from bert_serving.server.cli import start; start()"]
    command += ["-port", str(ports[0]), "-port_out", str(ports[1])] + flags
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env=dict(os.environ, BERT_SERVING_CACHE=cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        # The sockets wait for the server by themselves; nothing has to be tried again.
        with BertClient(port=ports[0], port_out=ports[1], timeout=120000) as client:
            client.encode(["First do it", "then do it right", "then do it better"])
        return time.monotonic() - began
    except TimeoutError:
        process.kill()
        _, errors = process.communicate()
        raise SystemExit("the server didn't start:\n" + errors.decode("utf-8")) from None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def free_ports() -> List[int]:
    """Two ports that nobody listens on."""
    sockets = [socket.socket(), socket.socket()]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def describe_machine() -> Dict[str, str]:
    """What the figures depend on."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("onnxruntime", "tokenizers", "pyzmq", "numpy")}
    cores = len(os.sched_getaffinity(0))
    return dict(
        packages, bert_serving=__version__, python=platform.python_version(), cores=str(cores)
    )


if __name__ == "__main__":
    sys.exit(main())
