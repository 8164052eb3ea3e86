"""The commands bert-serving-start and bert-serving-terminate.

Exit status: 0 after an orderly stop, 1 if a running service had to give up or no server could be
reached, 2 if the service can't start as asked, 130 if the user interrupted the start.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, List, Optional

from bert_serving.server.arguments import get_args_parser, get_shutdown_parser

__all__ = ["start", "terminate"]

USAGE = """
  from bert_serving.client import BertClient
  with BertClient(%s) as client:
      print(client.encode(["First do it", "then do it right", "then do it better"]).shape)
"""


def start(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-start; returns the exit status."""
    args = get_args_parser().parse_args(argv)
    from bert_serving.graph_opt.errors import GraphOptError
    from bert_serving.server import BertServer, ServerError

    # So that an end by SIGTERM during the start is as orderly as one by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server: Optional[BertServer] = None
    try:
        server = BertServer(args)
        _stop_by_signals(server)
        server.start()
        server.wait_until_ready()
    except (ServerError, GraphOptError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    was_ready = server.is_ready.is_set()
    if was_ready:
        print(USAGE % usage_arguments(args), flush=True)
    server.join()
    if server.error is not None:
        return 1
    return 0 if was_ready else 130


def usage_arguments(args: Any) -> str:
    """What BertClient has to be told to find this server from the same machine."""
    ports = [("port", args.port, 5555), ("port_out", args.port_out, 5556)]
    named = ["%s=%d" % (name, value) for name, value, default in ports if value != default]
    if args.host not in ("127.0.0.1", "0.0.0.0", "localhost"):  # noqa: S104 - compared, not bound
        named.insert(0, "ip=%r" % args.host)
    if args.curve is not None:
        named.append('keys="<client>.key_secret"')
    return ", ".join(named)


def _stop_by_signals(server: Any) -> None:
    """The first signal stops in order, the second at once."""

    def handle(number: int, frame: Any) -> None:
        server.stop()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def terminate(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-terminate; returns the exit status."""
    args = get_shutdown_parser().parse_args(argv)
    from bert_serving.server import BertServer, ServerError

    try:
        BertServer.shutdown(args)
    except (TimeoutError, ServerError, ValueError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    print("asked the server at %s port %d to stop" % (args.ip, args.port))
    return 0
