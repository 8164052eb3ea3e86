"""From the arguments of ``encode`` to what is sent, and to what is done with the reply. Pure.

A server of protocol 2 does everything itself. For one of bert-as-service 1.10 the client does what
it can, and refuses the rest with NotSupported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, List, Optional, Tuple

from bert_serving.client.arguments import Arguments
from bert_serving.client.errors import NotSupported
from bert_serving.client.facts import PREDECESSOR, ServerFacts
from bert_serving.client.frames import encode_texts
from bert_serving.client.options import MAX_TIMEOUT, Options

__all__ = ["Call", "as_seconds", "call_of", "command", "seconds_of", "shortened"]

#: What stands between the texts of a pair for a 1.10 server.
SEPARATOR = " ||| "


@dataclass(frozen=True)
class Call:
    """A request: ``payload``, ``rows`` and ``options`` as in protocol.Request.

    ``seconds`` is how long to wait for all of the answer; None: as long as it takes. The rest is
    what the caller gets: ``shows_tokens``, ``shows_offsets``, ``details`` (a whole Response), and
    what the client does to the vectors of a server that can't: ``unit_length`` and ``dtype``.
    ``is_stream``: in parts; a 1.10 server's reply is one part.
    """

    payload: bytes
    rows: int = 0
    options: Optional[Options] = None
    seconds: Optional[float] = None
    shows_tokens: bool = False
    shows_offsets: bool = False
    details: bool = False
    is_stream: bool = False
    unit_length: bool = False
    dtype: str = "float32"


def command(name: bytes, seconds: Optional[float] = None) -> Call:
    """A command, which is of protocol 1 for every server."""
    return Call(name, seconds=seconds)


def call_of(
    arguments: Arguments, facts: Optional[ServerFacts], seconds: Optional[float] = None
) -> Call:
    """How to ask a server for ``arguments``; None: one that nothing is known of.

    ``seconds`` is how long to wait where the arguments don't say. Raises NotSupported.
    """
    seconds = seconds_of(arguments, seconds)
    options: Optional[Options] = None
    texts: Any = arguments.texts
    if facts is not None and facts.takes_options:
        options = arguments.options(seconds)
        if arguments.pairs is not None:
            texts = arguments.pairs
    else:
        if facts is not None:
            _check_supported(arguments, facts)
        if arguments.pairs is not None:
            texts = [_joined(row, pair) for row, pair in enumerate(arguments.pairs)]
    return Call(
        encode_texts(texts),
        arguments.rows,
        options,
        seconds,
        shows_tokens=arguments.wants_tokens,
        shows_offsets=arguments.show_offsets,
        details=arguments.details,
        is_stream=arguments.stream,
        unit_length=options is None and bool(arguments.normalize),
        dtype=arguments.dtype,
    )


def seconds_of(arguments: Arguments, seconds: Optional[float]) -> Optional[float]:
    """How long to wait; ``seconds`` where the arguments don't say. None: as long as it takes."""
    if arguments.timeout is None:
        return seconds
    return as_seconds(arguments.timeout)


def as_seconds(timeout: float, in_a_second: int = 1) -> Optional[float]:
    """A time to wait that every clock can count; None for infinity. ``in_a_second``: its unit."""
    # Not math.isinf, which takes no whole number that is larger than any float.
    if timeout == float("inf"):
        return None
    return float(min(timeout, MAX_TIMEOUT * in_a_second)) / in_a_second


def shortened(call: Call, spent: float) -> Call:
    """``call`` when so many of its seconds have passed already."""
    if call.seconds is None:
        return call
    left = max(call.seconds - spent, 0.001)
    options = call.options
    if options is not None and options.timeout is not None:
        options = replace(options, timeout=min(options.timeout, left))
    return replace(call, seconds=left, options=options)


def _joined(row: int, pair: Any) -> str:
    first, second = (text.replace("\n", " ") for text in pair)
    for text in (first, second):
        if SEPARATOR in " %s " % text:
            raise _not_supported(
                "take a pair that has %r in it, as pairs[%d] does: it parts the texts there"
                % (SEPARATOR, row)
            )
    return first + SEPARATOR + second


def _check_supported(arguments: Arguments, facts: ServerFacts) -> None:
    """Raise NotSupported for what a server of protocol 1 can't do, nor the client for it."""
    if arguments.truncate != "right":
        raise _not_supported("do truncate=%r; it cuts on the right" % (arguments.truncate,))
    if arguments.partial:
        raise _not_supported("go on without texts that fail; leave partial out")
    if arguments.show_offsets:
        raise _not_supported("tell the tokens' offsets; leave show_offsets out")
    wanted = arguments.options().pooling_layer
    if wanted is not None and wanted != facts.layers:
        raise _not_supported(
            "pool layers %s on request; its own are %s" % (list(wanted), _shown(facts.layers))
        )
    strategy = arguments.pooling_strategy
    if strategy is not None and strategy not in (facts.strategies or ()):
        raise _not_supported(
            "do pooling_strategy=%r on request; its own is %s"
            % (strategy, " or ".join(facts.strategies or ("unknown",)))
        )
    if arguments.normalize and facts.strategies == ("NONE",):
        raise _not_supported("pool, and normalize is for vectors of whole texts")


def _shown(layers: Optional[Tuple[int, ...]]) -> str:
    shown: Optional[List[int]] = None if layers is None else list(layers)
    return "unknown" if shown is None else str(shown)


def _not_supported(what: str) -> NotSupported:
    return NotSupported(
        "the server is one of bert-as-service %s and can't %s" % (PREDECESSOR, what)
    )
