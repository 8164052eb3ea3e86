"""The arguments of ``encode``, checked at once: nothing is sent for those that can't be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Optional, Sequence, Tuple, Union

from bert_serving.client.checks import check_pairs, check_texts
from bert_serving.client.options import (
    DTYPES,
    MAX_LAYERS,
    MAX_USER,
    NO_OPTIONS,
    TRUNCATE,
    Options,
    Truncate,
)
from bert_serving.client.protocol import Texts

__all__ = ["Arguments", "Layers", "Pairs", "check_timeout"]

Layers = Union[int, Sequence[int]]
Pairs = Sequence[Sequence[str]]
#: Characters of a request that any server takes, whatever its -max_message_mb.
LARGE = 100_000


@dataclass(frozen=True)
class Arguments:
    """What was asked for; see :meth:`BertClient.encode`. Raises TypeError and ValueError."""

    texts: Optional[Texts] = None
    is_tokenized: bool = False
    show_tokens: bool = False
    pairs: Optional[Pairs] = None
    timeout: Optional[float] = None
    pooling_strategy: Optional[str] = None
    pooling_layer: Optional[Layers] = None
    normalize: Optional[bool] = None
    truncate: Truncate = "right"
    dtype: str = "float32"
    show_offsets: bool = False
    stream: bool = False
    details: bool = False
    partial: bool = False
    user: Optional[str] = None

    def __post_init__(self) -> None:
        if (self.texts is None) == (self.pairs is None):
            raise TypeError("encode needs either texts or pairs, a list of (first, second)")
        if self.pairs is not None:
            if self.is_tokenized:
                raise ValueError("is_tokenized=True is for texts: pairs are strings")
            check_pairs(self.pairs)
        else:
            check_texts(self.texts, self.is_tokenized)
        if self.is_tokenized and self.show_offsets:
            raise ValueError(
                "show_offsets=True is for texts: what is_tokenized has no characters to count"
            )
        if self.partial and not self.details:
            raise ValueError("partial=True tells in the details what failed: name details=True")
        check_timeout(self.timeout)
        _check_user(self.user)
        _check_strategy(self.pooling_strategy)
        _layers(self.pooling_layer)
        if self.normalize is not None and not isinstance(self.normalize, bool):
            raise TypeError("normalize must be True, False or None, not %r" % (self.normalize,))
        # Not "in": 0 equals False.
        if not (self.truncate is False or self.truncate in TRUNCATE[:2]):
            raise ValueError('truncate must be "right", "left" or False, not %r' % (self.truncate,))
        if self.dtype not in DTYPES:
            raise ValueError("dtype must be %s, not %r" % (" or ".join(DTYPES), self.dtype))

    @property
    def rows(self) -> int:
        """How many vectors are asked for."""
        return len(self.texts if self.texts is not None else self.pairs or ())

    @property
    def wants_tokens(self) -> bool:
        """Whether tokens are asked for; offsets are of no use without them."""
        return self.show_tokens or self.show_offsets

    @property
    def needs_facts(self) -> bool:
        """Whether something is asked for that not every server does by itself."""
        return self.pairs is not None or self.details or self.options() != NO_OPTIONS

    @property
    def is_large(self) -> bool:
        """Whether it may be more than some server takes."""
        size = 0
        for text in self.texts if self.texts is not None else self.pairs or ():
            parts = (text,) if isinstance(text, str) else text
            size += sum(len(part) + len('"",') for part in parts)
            if size > LARGE:
                return True
        return False

    def options(self, timeout: Optional[float] = None) -> Options:
        """What of it the server is told; ``timeout`` in seconds."""
        return Options(
            timeout=timeout,
            pooling_strategy=self.pooling_strategy,
            pooling_layer=_layers(self.pooling_layer),
            normalize=self.normalize,
            truncate=self.truncate,
            dtype=self.dtype,
            pairs=self.pairs is not None,
            tokens=self.wants_tokens,
            offsets=self.show_offsets,
            stream=self.stream,
            partial=self.partial,
            user=self.user,
        )


def _check_user(value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError("user must be a string or None, not %r" % (value,))
    if value is not None and not 0 < len(value) <= MAX_USER:
        raise ValueError("user must have 1 to %d characters, but has %d" % (MAX_USER, len(value)))


def check_timeout(value: Any) -> None:
    """Raise TypeError or ValueError unless ``value`` is None or can be seconds to wait."""
    if value is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError("timeout must be seconds, but is %r" % (value,))
    number: Any = value
    if not number > 0:  # NaN isn't either
        raise ValueError(
            "timeout must be more than 0 seconds, but is %r; "
            'to wait as long as it takes, name float("inf")' % (value,)
        )


def _check_strategy(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError("pooling_strategy must be a strategy's name, but is %r" % (value,))
    if not value:
        raise ValueError("pooling_strategy is empty; leave it out for the server's own")


def _layers(value: Any) -> Optional[Tuple[int, ...]]:
    if value is None:
        return None
    layers = tuple(value) if isinstance(value, (list, tuple, range)) else (value,)
    for one in layers:
        if not isinstance(one, Integral) or isinstance(one, bool):
            raise TypeError(
                "pooling_layer must be a layer's number or a list of them, but has %r" % (one,)
            )
    if not layers or len(layers) > MAX_LAYERS or any(abs(one) > MAX_LAYERS for one in layers):
        raise ValueError(
            "pooling_layer must name 1 to %d layers of the model, but is %r" % (MAX_LAYERS, value)
        )
    return tuple(map(int, layers))
