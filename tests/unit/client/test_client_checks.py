from __future__ import annotations

import warnings
from typing import Any, Optional

import pytest

from bert_serving.client import ProtocolError, VersionMismatch, __version__
from bert_serving.client.checks import (
    check_pairs,
    check_texts,
    check_version,
    identity_bytes,
    limits_of,
    warn_of_lengths,
    warn_of_tokens,
    warn_of_truncated,
)

MAJOR = __version__.split(".")[0]


@pytest.mark.parametrize(
    ("texts", "is_tokenized"),
    [(["a"], False), (["a b", "c"], False), ([["a"]], True), ([["a", "b"], ["c"]], True)],
)
def test_good_texts(texts: Any, is_tokenized: bool) -> None:
    check_texts(texts, is_tokenized)


@pytest.mark.parametrize(
    ("texts", "is_tokenized", "error", "message"),
    [
        ("text", False, TypeError, "texts must be a list, but is str"),
        (("a",), False, TypeError, "texts must be a list, but is tuple"),
        (None, False, TypeError, "texts must be a list, but is NoneType"),
        ([], False, ValueError, "texts is an empty list"),
        ([], True, ValueError, "texts is an empty list"),
        (["a", 1], False, TypeError, r"texts\[1\] must be a str, but is int"),
        (["a", b"b"], False, TypeError, r"texts\[1\] must be a str, but is bytes"),
        ([["a"]], False, TypeError, r"texts\[0\] must be a str, but is list"),
        (["a", ""], False, ValueError, r"texts\[1\] must have more in it than whitespace"),
        ([" \t\n"], False, ValueError, r"texts\[0\] must have more .* but is ' \\t\\n'"),
        ("text", True, TypeError, "texts must be a list, but is str"),
        (["a"], True, TypeError, r"texts\[0\] must be a list, but is str"),
        ([["a"], []], True, ValueError, r"texts\[1\] is an empty list"),
        ([["a", 1]], True, TypeError, r"texts\[0\]\[1\] must be a str, but is int"),
        ([["a", " "]], True, ValueError, r"texts\[0\]\[1\] must have more in it"),
    ],
)
def test_bad_texts(texts: Any, is_tokenized: bool, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        check_texts(texts, is_tokenized)


@pytest.mark.parametrize(
    ("texts", "limit", "is_tokenized", "message"),
    [
        (["a b c"], 2, False, "max_seq_len=2"),
        ([["a b", "c", "d"]], 2, True, "max_seq_len=2"),
        (["a"], None, False, "no max_seq_len"),
        (["a b"], 2, False, None),
        ([["a b c", "c"]], 2, True, None),
        ([("a", "b c")], 2, False, "max_seq_len=2"),
        ([("a", "b")], 2, False, None),
        (["a b c"], 0, False, None),
    ],
)
def test_warnings_of_lengths(
    texts: Any, limit: Optional[int], is_tokenized: bool, message: Optional[str]
) -> None:
    if message is None:
        warn_of_lengths(texts, limit, is_tokenized, 1)
    else:
        with pytest.warns(UserWarning, match=message):
            warn_of_lengths(texts, limit, is_tokenized, 1)


def test_good_pairs() -> None:
    check_pairs([("a", "b"), ["c", "d e"]])


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([], ValueError, "pairs is an empty list"),
        (("a", "b"), TypeError, "pairs must be a list, but is tuple"),
        (["ab"], TypeError, r"pairs\[0\] must be a pair of str, but is str"),
        ([("a", "b"), ("c",)], ValueError, r"pairs\[1\] must have 2 texts, but has 1"),
        ([("a", 5)], TypeError, r"pairs\[0\]\[1\] must be a str, but is int"),
        ([(" ", "b")], ValueError, r"pairs\[0\]\[0\] must have more in it than whitespace"),
    ],
)
def test_bad_pairs(pairs: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        check_pairs(pairs)


@pytest.mark.parametrize(
    ("rows", "limit", "message"),
    [
        ((3,), 25, r"1 of the texts, in row 3, had more tokens than the server takes \(25\)"),
        (tuple(range(9)), None, r"9 of the texts, in row 0, 1, 2, 3, 4, \.\.\., .* takes and were"),
    ],
)
def test_warning_of_what_was_truncated(rows: Any, limit: Optional[int], message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        warn_of_truncated(rows, limit, 1)
    assert caught[0].filename == __file__


def test_warning_of_tokens() -> None:
    with pytest.warns(UserWarning, match="show_tokens_to_client") as caught:
        warn_of_tokens(1)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("version", ["1.10.0", "1.10.1", "1.10"])
def test_versions_of_1_10(version: str) -> None:
    check_version({"server_version": version})


@pytest.mark.parametrize("version", [__version__, MAJOR + ".0.0", MAJOR + ".99.1"])
def test_our_versions(version: str) -> None:
    check_version({"server_version": "1.10.0", "protocol": 2, "bert_serving_version": version})


@pytest.mark.parametrize(
    "config",
    [
        {"server_version": "1.9.6"},
        {"server_version": "1.100.0"},
        {"server_version": "2.0.0"},
        {},
        {"server_version": "1.10.0", "protocol": 3, "bert_serving_version": "99.0.0"},
        {"server_version": "1.10.0", "protocol": 2},
    ],
)
def test_other_versions(config: Any) -> None:
    with pytest.raises(VersionMismatch, match=r"check_version=False") as caught:
        check_version(config)
    assert __version__ in str(caught.value)


def test_limits() -> None:
    assert limits_of({"max_seq_len": 25, "show_tokens_to_client": True}) == (25, True)
    assert limits_of({"max_seq_len": None, "show_tokens_to_client": False}) == (None, False)
    for config in ({}, {"max_seq_len": 1}, {"max_seq_len": "x", "show_tokens_to_client": True}):
        with pytest.raises(ProtocolError, match="configuration"):
            limits_of(config)


def test_identity() -> None:
    assert identity_bytes("ä") == "ä".encode()
    assert identity_bytes(b"me") == b"me"
    assert len(identity_bytes(None)) == 36
    assert identity_bytes(None) != identity_bytes(b"")
    wrong: Any
    for wrong in (b"a\0b", b"x" * 255, "ä" * 128, 5):
        with pytest.raises(ValueError, match="identity must"):
            identity_bytes(wrong)


def test_no_warning_leaks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_lengths(["a"], 25, False, 1)
        warn_of_truncated((), 25, 1)
