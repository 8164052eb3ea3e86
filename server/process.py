"""Entry point of the server's own processes: ``python -m bert_serving.server.process``.

The supervisor starts them as fresh interpreters, not by fork or multiprocessing: so nothing is
inherited or pickled, and a program that uses BertServer needs no guard around its main part.
What the process is to do comes as a line of JSON on standard input, which stays open as long as
the supervisor lives (see :mod:`bert_serving.server.link`).
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from typing import Any, Dict, Tuple

import zmq

from bert_serving.server.errors import ServerError
from bert_serving.server.link import Heart, Link, Orphaned
from bert_serving.server.logs import log_bug, set_up_logging
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["main"]

logger = logging.getLogger("bert_serving.server.process")


def main() -> int:
    """Run one role until it is told to stop; the exit status is 0 if it was."""
    # Ctrl-C is the supervisor's business, which stops us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_many_connections()
    line = sys.stdin.buffer.readline()
    if not line:
        return 1  # whoever started this process was ended before it could say what for
    order = json.loads(line)
    heart = Heart(order["beat_fd"])
    heart.start()
    spec = ServiceSpec.from_json(order["spec"])
    set_up_logging(order["name"].upper(), spec.verbose, spec.use_color)
    context = zmq.Context()
    endpoints = Endpoints(**order["endpoints"])
    link = Link(context, endpoints.control, order["identity"], heart)
    try:
        _run(order, context, spec, endpoints, link)
        return 0
    except Orphaned:
        return 0
    except (ServerError, zmq.ZMQError) as error:
        link.report("failed", message=str(error))
    except Exception as error:
        log_bug(logger, "a bug", error)
        message = "a bug: %s" % type(error).__name__
        if not link.has_started:  # what it says can't quote a text yet
            message = "%s: %s" % (type(error).__name__, error)
        link.report("failed", message=message)
    finally:
        link.close()
        context.destroy(linger=1000)  # also what a role had opened before it failed
        heart.stop()
    return 1


def allow_many_connections() -> None:
    """Raise the limit of open files, of which every client takes one, as far as the system lets.

    The usual limit of 1,024 is meant for programs that use select(), which ZeroMQ doesn't.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(
    order: Dict[str, Any],
    context: zmq.Context,
    spec: ServiceSpec,
    endpoints: Endpoints,
    link: Link,
) -> None:
    """Import what the role needs, and only that, and run it."""
    role: Any
    arguments: Tuple[int, ...] = ()
    if order["role"] == "worker":
        from bert_serving.server.worker import Worker

        role = Worker(context, spec, endpoints, link, order["identity"])
        arguments = (order["device"],)
    elif order["role"] == "sink":
        from bert_serving.server.sink import Sink

        role = Sink(context, spec, endpoints, link)
    elif order["role"] == "preparation":
        from bert_serving.server.preparing import Preparation

        role = Preparation(link, order["args"])
    elif order["role"] == "http":
        from bert_serving.server.generation import vocabulary_of
        from bert_serving.server.http.serving import HttpFrontEnd

        role = HttpFrontEnd(spec, link, vocabulary_of(spec))
    else:
        role = _ventilator(context, spec, endpoints, link)
    try:
        role.run(*arguments)
    finally:
        role.close()


def _ventilator(context: zmq.Context, spec: ServiceSpec, endpoints: Endpoints, link: Link) -> Any:
    from bert_serving.server.generation import vocabulary_of
    from bert_serving.server.ventilator import Ventilator

    return Ventilator(context, spec, endpoints, link, vocabulary_of(spec))


if __name__ == "__main__":
    sys.exit(main())
