"""What the client checks: its arguments, texts and their lengths, the server's configuration."""

from __future__ import annotations

import uuid
import warnings
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from bert_serving.client.errors import ProtocolError, VersionMismatch
from bert_serving.client.facts import PREDECESSOR, protocol_of
from bert_serving.client.protocol import check_identity
from bert_serving.client.version import __version__

__all__ = [
    "identity_bytes",
    "check_texts",
    "check_pairs",
    "check_size",
    "warn_of_lengths",
    "warn_of_tokens",
    "warn_of_truncated",
    "limits_of",
    "print_config",
    "check_version",
]

#: How many truncated rows a warning names.
_NAMED_ROWS = 5


def identity_bytes(identity: Union[bytes, str, None]) -> bytes:
    """``identity``, or a random one if it is empty. Raises ValueError if it can't be one."""
    if not identity:
        return str(uuid.uuid4()).encode("ascii")
    value = identity.encode("utf-8") if isinstance(identity, str) else identity
    check_identity(value)
    return value


def check_texts(texts: Any, is_tokenized: bool) -> None:
    """Raise TypeError or ValueError unless ``texts`` can be encoded.

    It must be a non-empty list of strings with more than whitespace in them or, if it
    ``is_tokenized``, of non-empty lists of such strings.
    """
    _check_list(texts, "texts")
    for row, text in enumerate(texts):
        name = "texts[%d]" % row
        if not is_tokenized:
            _check_string(text, name)
            continue
        _check_list(text, name)
        if not _are_strings(text):
            for position, token in enumerate(text):
                _check_string(token, "%s[%d]" % (name, position))


def _are_strings(tokens: List[Any]) -> bool:
    """Whether all can be encoded; there may be millions, and this is ten times as fast."""
    try:
        return all(map(str.strip, tokens))
    except TypeError:
        return False


def check_pairs(pairs: Any) -> None:
    """Raise TypeError or ValueError unless ``pairs`` is a non-empty list of pairs of strings."""
    _check_list(pairs, "pairs")
    for row, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)):
            raise TypeError(
                "pairs[%d] must be a pair of str, but is %s" % (row, type(pair).__name__)
            )
        if len(pair) != 2:
            raise ValueError("pairs[%d] must have 2 texts, but has %d" % (row, len(pair)))
        for position, text in enumerate(pair):
            _check_string(text, "pairs[%d][%d]" % (row, position))


def _check_list(value: object, name: str) -> None:
    if not isinstance(value, list):
        raise TypeError("%s must be a list, but is %s" % (name, type(value).__name__))
    if not value:
        raise ValueError("%s is an empty list: there is nothing to encode" % name)


def _check_string(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError("%s must be a str, but is %s" % (name, type(value).__name__))
    if not value.strip():
        raise ValueError("%s must have more in it than whitespace, but is %r" % (name, value))


def check_size(size: int, limit: Optional[int]) -> None:
    """Raise ValueError if texts of ``size`` bytes are more than the server takes; None: any.

    It would cut the connection without a word, for it doesn't read what is larger.
    """
    if limit is not None and size > limit:
        raise ValueError(
            "the texts have %d bytes together, and the server takes %d in a request: send them in "
            "several, or start the server with a larger -max_message_mb" % (size, limit)
        )


def warn_of_lengths(
    texts: Sequence[Any], limit: Optional[int], is_tokenized: bool, stack_level: int
) -> None:
    """Warn when the server has no ``max_seq_len`` (None), or some text is longer than it.

    For servers that don't tell what they cut. Without the tokenizer a text's length is the number
    of its words; the real one is larger. A ``limit`` of 0 means that it isn't known, and nothing
    is said. ``stack_level`` is that of warnings.warn, for the caller of this function.
    """
    if limit is None:
        warnings.warn(
            "the server sets no max_seq_len, so the longest text of a batch decides how long "
            "all are padded: shorten texts that needn't be so long",
            UserWarning,
            stack_level + 1,
        )
    elif limit and any(_length(text, is_tokenized) > limit for text in texts):
        warnings.warn(
            "some texts have more tokens than the server's max_seq_len=%d and will be truncated; "
            "start the server with a larger -max_seq_len, or turn this warning off with "
            "BertClient(check_length=False)" % limit,
            UserWarning,
            stack_level + 1,
        )


def _length(text: Any, is_tokenized: bool) -> int:
    if isinstance(text, str):
        return len(text.split())
    return len(text) if is_tokenized else sum(len(one.split()) for one in text)


def warn_of_truncated(rows: Sequence[int], limit: Optional[int], stack_level: int) -> None:
    """Warn of ``rows`` that the server cut, if there are any, to ``limit`` tokens (None: unknown).

    ``stack_level`` is that of warnings.warn, for the caller of this function.
    """
    if not rows:
        return
    named = ", ".join(map(str, rows[:_NAMED_ROWS])) + (", ..." if len(rows) > _NAMED_ROWS else "")
    warnings.warn(
        "%d of the texts, in row %s, had more tokens than the server takes%s and were truncated; "
        "start the server with a larger -max_seq_len, let encode(truncate=False) raise an error, "
        "or turn this warning off with BertClient(check_length=False)"
        % (len(rows), named, "" if limit is None else " (%d)" % limit),
        UserWarning,
        stack_level + 1,
    )


def warn_of_tokens(stack_level: int) -> None:
    """Warn that tokens were asked for, but the server, one of 1.10, doesn't send them.

    ``stack_level`` is that of warnings.warn, for the caller of this function.
    """
    warnings.warn(
        "show_tokens=True, but this server sends no tokens, so only vectors are returned; start "
        "it with -show_tokens_to_client, or call encode() without show_tokens",
        UserWarning,
        stack_level + 1,
    )


def limits_of(config: Mapping[str, Any]) -> Tuple[Optional[int], bool]:
    """The server's ``max_seq_len`` (None: it sets none), and whether it sends tokens."""
    try:
        limit = config["max_seq_len"]
        return None if limit is None else int(limit), bool(config["show_tokens_to_client"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the server's configuration can't be read: %r" % error) from error


def print_config(config: Mapping[str, Any]) -> None:
    """Print the server's configuration, a line for each entry."""
    print("server config:")  # noqa: T201
    for key, value in config.items():
        print("%30s = %s" % (key, value))  # noqa: T201


def check_version(config: Mapping[str, Any]) -> None:
    """Raise VersionMismatch unless this client can work with the server of ``config``.

    It can with servers of its own major version, and with bert-as-service 1.10.
    """
    if protocol_of(config) >= 2:
        version = str(config.get("bert_serving_version"))
        is_known = _major(version) == _major(__version__)
    else:
        version = str(config.get("server_version"))
        is_known = ".".join(version.split(".")[:2]) == PREDECESSOR
    if not is_known:
        raise VersionMismatch(
            "the server has version %s, but this client has %s and works with servers of version "
            "%s.x and 1.10: install the same version on both sides, or turn this check off with "
            "BertClient(check_version=False)" % (version, __version__, _major(__version__))
        )


def _major(version: str) -> str:
    return version.split(".")[0]
