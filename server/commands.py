"""What clients ask of the server beside vectors."""

from __future__ import annotations

import time

import zmq

from bert_serving.client import protocol
from bert_serving.client.protocol import Request
from bert_serving.server import work
from bert_serving.server.answers import Answers
from bert_serving.server.entrance import Entrance
from bert_serving.server.executor import Executor
from bert_serving.server.generations import Generations
from bert_serving.server.link import Link
from bert_serving.server.open_requests import OpenRequests
from bert_serving.server.request_messages import Info
from bert_serving.server.spec import Endpoints
from bert_serving.server.stats import Statistics
from bert_serving.server.status import describe_service, describe_work

__all__ = ["Commands"]

#: What only this machine, or who has the admin token, may ask for: what it is called, and what is
#: reported to the supervisor then.
ORDERS = {
    protocol.TERMINATION: ("stop", "terminate"),
    protocol.RELOAD: ("load its model again", "reload"),
}


class Commands:
    """Orders go to the supervisor, cancellations to the schedulers; the others are answered."""

    def __init__(
        self,
        entrance: Entrance,
        generations: Generations,
        requests: OpenRequests,
        statistics: Statistics,
        executor: Executor,
        answers: Answers,
        endpoints: Endpoints,
        link: Link,
    ) -> None:
        self._entrance = entrance
        self._generations = generations
        self._open = requests
        self._statistics = statistics
        self._executor = executor
        self._answers = answers
        self._endpoints = endpoints
        self._link = link

    def obey(self, request: Request, frame: zmq.Frame) -> None:
        """Do what a command says; ``frame`` is one of its message."""
        if request.payload in ORDERS:
            what, event = ORDERS[request.payload]
            if self._entrance.may_administer(what, request, frame):
                self._link.report(event)
        elif request.payload == protocol.CANCEL:
            handle = self._open.find(*request.name)
            if handle is not None:
                self._statistics.count_cancelled()
                self._executor.schedule(work.Cancelled(handle))
        else:
            self._show(request)

    def _show(self, request: Request) -> None:
        self._statistics.count_command(request.identity)
        statistics = None
        if request.payload == protocol.SHOW_STATUS:
            schedulers, now = self._generations.schedulers, time.monotonic()
            statistics = describe_work(self._statistics, self._open, schedulers, now)
        spec = self._generations.current.spec
        info = describe_service(spec, self._endpoints, request.identity, statistics)
        self._answers.send(Info(request.identity, request.request_id, info))
