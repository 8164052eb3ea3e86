"""What a request of protocol 2 may ask for beside its texts: the JSON object in its fifth frame.

Pure. The same class makes the object in the client and checks it in the server, so that both have
one idea of what is allowed. A key that isn't known is refused rather than ignored: whoever asks for
something must not get something else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union

__all__ = ["DTYPES", "MAX_TIMEOUT", "TRUNCATE", "Options"]

#: Seconds; about 30 years.
MAX_TIMEOUT = 1e9
DTYPES = ("float32", "float16")
#: From which side tokens are cut; False: a longer text is an error.
TRUNCATE = ("right", "left", False)
#: More layers than any model has.
MAX_LAYERS = 1000
#: Characters of a user's name.
MAX_USER = 200

Truncate = Union[str, bool]


@dataclass(frozen=True)
class Options:
    """See docs/protocol.md. None: as the server was started."""

    timeout: Optional[float] = None  # seconds; after that nobody waits
    again: bool = False  # the same request was sent before, and may have arrived
    pooling_strategy: Optional[str] = None
    pooling_layer: Optional[Tuple[int, ...]] = None
    normalize: Optional[bool] = None
    truncate: Truncate = "right"
    dtype: str = "float32"
    pairs: bool = False  # each text is a list of two
    tokens: bool = False
    offsets: bool = False
    stream: bool = False
    partial: bool = False  # texts that can't be computed don't fail the others
    user: Optional[str] = None  # of the client's, for whom it asks: users share, as clients do

    @property
    def asks_for_pooling(self) -> bool:
        """Whether vectors may have to be made in another way than the server's own."""
        asked = (self.pooling_strategy, self.pooling_layer, self.normalize)
        return any(one is not None for one in asked)

    def to_header(self) -> Dict[str, Any]:
        """The JSON object; what has its default is left out."""
        header = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                header[name] = list(value) if isinstance(value, tuple) else value
        return header

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Options:
        """The options of a JSON object. Raises ValueError, which names the key and its value."""
        if not header:
            return NO_OPTIONS
        values = {}
        for key, value in header.items():
            check = _CHECKS.get(key)
            if check is None:
                raise ValueError(
                    "the header's key %s is not known; known are %s"
                    % (_shorten(key), ", ".join(sorted(_CHECKS)))
                )
            if value is None and _DEFAULTS[key] is None:
                continue
            try:
                values[key] = check(value)
            except ValueError as error:
                raise ValueError(
                    "the header's %s must be %s, but is %s" % (key, error, _shorten(value))
                ) from None
        return cls(**values)


def _shorten(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _timeout(value: Any) -> float:
    # Numbers out of JSON may be as large as they like.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_TIMEOUT:
        raise ValueError("a positive number of seconds")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _strategy(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("the name of a strategy")
    return value


def _layers(value: Any) -> Tuple[int, ...]:
    layers = value if isinstance(value, list) else [value]
    is_numbers = all(isinstance(one, int) and not isinstance(one, bool) for one in layers)
    if not layers or len(layers) > MAX_LAYERS or not is_numbers:
        raise ValueError("a layer's number, or a list of some")
    if any(abs(one) > MAX_LAYERS for one in layers):
        raise ValueError("layers of the model")
    return tuple(layers)


def _truncate(value: Any) -> Truncate:
    if not any(value is one or (isinstance(value, str) and value == one) for one in TRUNCATE):
        raise ValueError('"right", "left" or false')
    result: Truncate = value
    return result


def _user(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_USER:
        raise ValueError("a string of 1 to %d characters" % MAX_USER)
    return value


def _dtype(value: Any) -> str:
    if value not in DTYPES:
        raise ValueError(" or ".join(DTYPES))
    return str(value)


_DEFAULTS: Dict[str, Any] = {one.name: one.default for one in fields(Options)}
_CHECKS: Dict[str, Callable[[Any], Any]] = {
    "timeout": _timeout,
    "pooling_strategy": _strategy,
    "pooling_layer": _layers,
    "truncate": _truncate,
    "dtype": _dtype,
    "user": _user,
}
_CHECKS.update({name: _flag for name in _DEFAULTS if name not in _CHECKS})
NO_OPTIONS = Options()
