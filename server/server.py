"""BertServer: a service that runs from inside a Python program, or from the command line."""

from __future__ import annotations

import argparse
import logging
import threading
import time
from types import TracebackType
from typing import Any, Optional, Type

import zmq

from bert_serving.client.curve import Keys, as_client, bound_identity, read_keys
from bert_serving.client.frames import encode_request
from bert_serving.client.protocol import RELOAD, TERMINATION, Request
from bert_serving.server.addresses import connect_tcp
from bert_serving.server.errors import ServerError
from bert_serving.server.logs import set_up_logging
from bert_serving.server.preparation import prepare
from bert_serving.server.secret_files import admin_token
from bert_serving.server.supervisor import Supervisor

__all__ = ["BertServer"]

logger = logging.getLogger(__name__)


class BertServer(threading.Thread):
    """A service and the thread that supervises its processes.

    ::

        args = get_args_parser().parse_args(["-model_dir", "some/model", "-num_worker", "2"])
        with BertServer(args) as server:
            server.join()

    Entering the context waits until the service is ready; leaving it answers what was accepted,
    then stops every process. Making the object finds the model and optimizes its graph.

    Raises, when it is made or entered, StartupError or an exception of graph_opt, with a message
    for the user.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(name="bert-server")
        set_up_logging("SERVER", args.verbose)
        self._created = time.monotonic()
        self.args = args
        self.port = args.port
        self.spec = prepare(args)
        self._supervisor = Supervisor(self.spec, args)
        self.is_ready = threading.Event()
        self._is_settled = threading.Event()  # ready, or never going to be
        self.error: Optional[BaseException] = None

    def __enter__(self) -> "BertServer":
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Return when the service answers; raise what kept it from starting."""
        self._is_settled.wait()
        if self.error is not None:
            self.join()
            raise self.error

    def run(self) -> None:
        """The thread's work; call start() instead."""
        try:
            self._supervisor.run(self._announce)
        except ServerError as error:
            self.error = error
            if self._is_settled.is_set():
                logger.error(error)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.is_ready.clear()
            self._is_settled.set()
            self._supervisor.close()
            logger.info("stopped")

    def _announce(self) -> None:
        spec = self.spec
        http = "" if spec.http is None else ", HTTP on port %d" % spec.http.port
        logger.info(
            "ready on %s ports %d and %d%s: %s, %s on %s, vectors of %d dimensions%s (%.2f s)",
            spec.host,
            spec.port,
            spec.port_out,
            http,
            spec.model,
            spec.engine.name,
            ", ".join(spec.labels),
            spec.engine.dimension,
            " for every token" if spec.engine.per_token else "",
            time.monotonic() - self._created,
        )
        self.is_ready.set()
        self._is_settled.set()

    def stop(self, at_once: bool = False) -> None:
        """Ask the service to stop and return; for signal handlers. ``at_once``: without answers
        to what is under way.
        """
        self._supervisor.stop(at_once)

    def close(self) -> None:
        """Stop the service and wait until all its processes are gone."""
        if self.ident is None:  # never started
            self._supervisor.close()
            return
        self.stop()
        self.join()

    def reload(self) -> None:
        """Have the model loaded again, by the same flags, and return; for signal handlers.

        Requests are served meanwhile. A model that can't be served is refused, as the log tells.
        """
        self._supervisor.reload()

    @staticmethod
    def shutdown(args: Any) -> None:
        """Ask the server at ``args.ip``, ``args.port`` to stop, as bert-serving-terminate does.

        ``args.timeout`` is in milliseconds. ``args.admin_token_file``, ``args.keys`` and
        ``args.server_key`` may be left out. Raises TimeoutError if nobody listens there, or takes
        the keys; StartupError and ValueError for files that can't be read.
        """
        _ask(args, TERMINATION)

    @staticmethod
    def ask_to_reload(args: Any) -> None:
        """Ask the server at ``args.ip``, ``args.port`` to load its model again, likewise."""
        _ask(args, RELOAD)


def _ask(args: Any, command: bytes) -> None:
    token = admin_token(getattr(args, "admin_token_file", None))
    keys: Optional[Keys] = None
    if getattr(args, "keys", None) is not None:
        keys = read_keys(args.keys, getattr(args, "server_key", None))
    identity = b"0" if keys is None else bound_identity(keys.public, b"0")
    request = Request(identity, command, 0, admin_token=token)
    with zmq.Context() as context, context.socket(zmq.PUSH) as requests:
        # Only to a connection that exists: else the request would wait in vain.
        requests.setsockopt(zmq.IMMEDIATE, 1)
        requests.setsockopt(zmq.SNDTIMEO, args.timeout)
        requests.setsockopt(zmq.LINGER, args.timeout)
        as_client(requests, keys)
        connect_tcp(requests, args.ip, args.port)
        try:
            requests.send_multipart(encode_request(request))
        except zmq.Again as error:
            raise TimeoutError(
                "no server answers at %s port %d (waited %d ms); are address and port those "
                "that it was started with, and does it know the keys, if it wants some?"
                % (args.ip, args.port, args.timeout)
            ) from error
