"""What clients of both kinds have: their arguments, what they know of the server, their results.

No IO: how requests are sent and waited for is the subclass's.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence, Set, Union

from bert_serving.client.arguments import Arguments
from bert_serving.client.calls import Call, as_seconds, call_of, seconds_of
from bert_serving.client.checks import (
    check_size,
    check_version,
    identity_bytes,
    limits_of,
    print_config,
    warn_of_lengths,
    warn_of_tokens,
    warn_of_truncated,
)
from bert_serving.client.curve import Keys, bound_identity, read_keys
from bert_serving.client.facts import ServerFacts, facts_of
from bert_serving.client.requests import Taken
from bert_serving.client.responses import Response, part_of, response_of
from bert_serving.client.version import __version__

__all__ = ["ClientBase"]

#: How long connecting waits for a server when no ``timeout`` is named, in milliseconds.
CONNECT_TIMEOUT_MS = 10_000


class ClientBase:
    """See :class:`BertClient`. ``stack_level`` is that of warnings.warn in the method itself."""

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 5555,
        port_out: int = 5556,
        output_fmt: str = "ndarray",
        show_server_config: bool = False,
        identity: Union[bytes, str, None] = None,
        check_version: bool = True,
        check_length: bool = True,
        check_token_info: bool = True,
        ignore_all_checks: bool = False,
        timeout: float = -1,
        *,
        keys: "Union[str, os.PathLike[str], Keys, None]" = None,
        server_key: "Union[str, os.PathLike[str], None]" = None,
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise AttributeError('output_fmt must be "ndarray" or "list", not %r' % (output_fmt,))
        self.identity = identity_bytes(identity)
        if server_key is not None and keys is None:
            raise ValueError("server_key needs a key file of the client's own, too: keys=...")
        self._keys = None if keys is None else read_keys(keys, server_key)
        if self._keys is not None:
            self.identity = bound_identity(self._keys.public, self.identity)
        self.ip = ip
        self.port = port
        self.port_out = port_out
        self.output_fmt = output_fmt
        self.timeout = timeout
        self.length_limit: Optional[int] = 0
        self.token_info_available = False
        self._facts: Optional[ServerFacts] = None
        checks = (check_version, check_length, check_token_info, show_server_config)
        self._checks = (False,) * len(checks) if ignore_all_checks else checks
        self._open()

    def _open(self) -> None:
        """Make the sockets; the last step of the constructor."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------- status

    @property
    def request_id(self) -> int:
        """The id of the latest request; they count from 1, commands included."""
        raise NotImplementedError

    @property
    def pending_request(self) -> Set[int]:
        """The ids of requests whose result isn't handed out yet, arrived or not."""
        raise NotImplementedError

    @property
    def status(self) -> Dict[str, Any]:
        """The state of this client; asks the server nothing."""
        pending = self.pending_request
        return {
            "identity": self.identity,
            "num_request": self.request_id,
            "num_pending_request": len(pending),
            "pending_request": pending,
            "output_fmt": self.output_fmt,
            "port": self.port,
            "port_out": self.port_out,
            "server_ip": self.ip,
            "client_version": __version__,
            "timeout": self.timeout,
        }

    # ----------------------------------------------------------------------------- the server

    @property
    def _seconds(self) -> Optional[float]:
        return None if self.timeout < 0 else as_seconds(self.timeout, 1000)

    @property
    def _connect_seconds(self) -> float:
        return CONNECT_TIMEOUT_MS / 1000 if self._seconds is None else self._seconds

    def _learn(self, config: Mapping[str, Any]) -> None:
        """Check the server by its configuration, as the constructor was told."""
        self._facts = facts_of(config)
        version, length, tokens, show = self._checks
        if version:
            check_version(config)
        limit, sends_tokens = limits_of(config)
        if length:
            self.length_limit = limit
        if tokens:
            self.token_info_available = sends_tokens
        if show:
            print_config(config)

    def _has_to_ask(self, arguments: Arguments) -> bool:
        """Whether the server's configuration is needed first, since no check has asked for it."""
        return self._facts is None and (arguments.needs_facts or arguments.is_large)

    def _seconds_to_ask(self, arguments: Arguments) -> Optional[float]:
        """How long to wait for it, also when the call then doesn't wait for its result."""
        return seconds_of(arguments, self._seconds)

    def _learn_unchecked(self, config: Mapping[str, Any]) -> None:
        """Take from the configuration what calls depend on, without a word on the rest."""
        self._facts = facts_of(config)
        self.token_info_available = bool(config.get("show_tokens_to_client"))

    # -------------------------------------------------------------------------------- results

    def _call_of(self, arguments: Arguments, seconds: Optional[float], stack_level: int) -> Call:
        """What to send, once enough is known of the server; ``seconds`` as in ``call_of``."""
        call = call_of(arguments, self._facts, seconds)
        check_size(len(call.payload), None if self._facts is None else self._facts.max_message)
        if call.options is not None:
            return call
        texts: Any = arguments.texts if arguments.pairs is None else arguments.pairs
        warn_of_lengths(texts, self.length_limit, arguments.is_tokenized, stack_level)
        if call.shows_tokens and not self.token_info_available:
            warn_of_tokens(stack_level)
            call = replace(call, shows_tokens=False)
        return call

    def _response(self, taken: Taken, stack_level: int) -> Response:
        response = response_of(taken, self.output_fmt)
        self._warn(response.truncated, stack_level + 1)
        return response

    def _part(self, taken: Taken, stack_level: int) -> Any:
        part = part_of(taken, self.output_fmt)
        details = taken.reply.details
        self._warn(() if details is None else details.truncated, stack_level + 1)
        return part

    def _warn(self, truncated: Sequence[int], stack_level: int) -> None:
        if self.length_limit != 0:
            limit = None if self._facts is None else self._facts.max_length
            warn_of_truncated(truncated, limit, stack_level)
