"""What a client has to know of its server to ask it for something. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from bert_serving.client.errors import ProtocolError

__all__ = ["PREDECESSOR", "ServerFacts", "facts_of", "protocol_of"]

#: The version of bert-as-service whose servers this client works with.
PREDECESSOR = "1.10"
#: 1.10's pooling strategies by the number that stands in its configuration.
_STRATEGIES = {
    0: ("NONE",),
    1: ("REDUCE_MAX",),
    2: ("REDUCE_MEAN",),
    3: ("REDUCE_MEAN_MAX",),
    4: ("CLS_TOKEN", "FIRST_TOKEN"),
    5: ("SEP_TOKEN", "LAST_TOKEN"),
    6: ("CLS_POOLED",),
}


@dataclass(frozen=True)
class ServerFacts:
    """``max_length``: tokens of the longest sequence, special ones included; None: not known.
    ``strategies``: the names of its pooling strategy, and ``layers`` those that it pools, as a
    server of protocol 1 tells them, which can do nothing else; None: not known. ``max_message``:
    bytes of a request's texts that it takes; None: it doesn't say.
    """

    protocol: int
    max_length: Optional[int] = None
    strategies: Optional[Tuple[str, ...]] = None
    layers: Optional[Tuple[int, ...]] = None
    max_message: Optional[int] = None

    @property
    def takes_options(self) -> bool:
        """Whether it knows more than texts: protocol 2."""
        return self.protocol >= 2


def facts_of(config: Mapping[str, Any]) -> ServerFacts:
    """What stands in a server's configuration. Raises ProtocolError for a protocol that is none."""
    length = config.get("max_length", config.get("max_seq_len"))
    layers = config.get("pooling_layer")
    if isinstance(layers, int):
        layers = [layers]
    megabytes = config.get("max_message_mb")
    return ServerFacts(
        protocol_of(config),
        length if isinstance(length, int) else None,
        _STRATEGIES.get(config.get("pooling_strategy", -1)),
        tuple(layers) if isinstance(layers, list) else None,
        megabytes * 1_000_000 if isinstance(megabytes, int) and megabytes > 0 else None,
    )


def protocol_of(config: Mapping[str, Any]) -> int:
    """The protocol that the server speaks; 1.10 doesn't say, and means 1."""
    protocol = config.get("protocol", 1)
    if not isinstance(protocol, int):
        raise ProtocolError("the server's protocol must be a number, but is %r" % (protocol,))
    return protocol
