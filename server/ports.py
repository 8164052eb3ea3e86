"""Whether the ports that the service is to listen on are free."""

from __future__ import annotations

import argparse
import socket
from typing import Dict

from bert_serving.server.errors import StartupError

__all__ = ["check_ports"]


def check_ports(args: argparse.Namespace) -> None:
    """Find out early whether the ports are free.

    Raises StartupError; the processes that bind them later find out what changes till then.
    """
    flags = {"-port": args.port, "-port_out": args.port_out}
    if args.http_port is not None:
        flags["-http_port"] = args.http_port
    taken: Dict[int, str] = {}
    for flag, port in flags.items():
        if port in taken:
            raise StartupError(
                "%s and %s are both %d; each needs a port of its own" % (taken[port], flag, port)
            )
        taken[port] = flag
    for flag, port in flags.items():
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As ZeroMQ does: what lingers of a server that just ended is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((args.host, port))
                probe.listen(1)
            except OSError as error:
                raise StartupError(
                    "can't listen on %s port %d: %s; if another server runs there, stop it by "
                    "bert-serving-terminate or name another %s"
                    % (args.host, port, error.strerror or error, flag)
                ) from error
