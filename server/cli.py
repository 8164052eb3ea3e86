"""The commands bert-serving-start, bert-serving-terminate and bert-serving-reload.

Exit status: 0 after an orderly stop, 1 if a running service had to give up or no server could be
reached, 2 if the service can't start as asked, 130 if the user interrupted the start.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, Callable, List, Optional

from bert_serving.server.arguments import (
    get_args_parser,
    get_reload_parser,
    get_shutdown_parser,
)

__all__ = ["reload", "start", "terminate"]

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
        _obey_signals(server)
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


def _obey_signals(server: Any) -> None:
    """The first SIGINT or SIGTERM stops in order, the second at once; SIGHUP reloads the model.

    A terminal that is closed sends SIGHUP, too: that stops the server, unless nohup started it.
    """
    is_protected = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN or not _has_terminal()

    def stop(number: int, frame: Any) -> None:
        server.stop()

    def hang_up(number: int, frame: Any) -> None:
        if is_protected or _has_terminal():
            server.reload()
        else:
            server.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, hang_up)


def _has_terminal() -> bool:
    """Whether the process belongs to a terminal that is open."""
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False


def terminate(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-terminate; returns the exit status."""
    from bert_serving.server import BertServer

    return _ask(get_shutdown_parser().parse_args(argv), BertServer.shutdown, "stop")


def reload(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-reload; returns the exit status."""
    from bert_serving.server import BertServer

    args = get_reload_parser().parse_args(argv)
    return _ask(args, BertServer.ask_to_reload, "load its model again")


def _ask(args: Any, ask: Callable[[Any], None], what: str) -> int:
    from bert_serving.server import ServerError

    try:
        ask(args)
    except (TimeoutError, ServerError, ValueError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    print("asked the server at %s port %d to %s" % (args.ip, args.port, what))
    return 0
