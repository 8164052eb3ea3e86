"""Rows of an input, and the batches that they are sent in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Iterator, List, NamedTuple, Optional

from bert_serving.client.bulk.errors import InputError

__all__ = ["BLANKS", "START", "Batch", "Position", "Row", "Source", "batches", "is_blank"]

#: What to do with texts that have nothing to encode.
BLANKS = ("error", "zero")
#: Characters of a batch, about: it ends with the text that reaches them, so that long texts don't
#: take more memory than short ones.
BATCH_CHARACTERS = 1 << 20


class Position(NamedTuple):
    """How far an input is read: ``offset`` in bytes of text, or in rows of Parquet; ``line`` is
    how many lines (of Parquet: rows) those are.
    """

    offset: int
    line: int


START = Position(0, 0)


class Row(NamedTuple):
    """One text; None for a missing value. It begins in line ``line``, counted from 1."""

    text: Optional[str]
    line: int
    end: Position


@dataclass(frozen=True)
class Batch:
    """Texts that are sent together. ``consumed`` is the input's measure of progress behind them."""

    texts: List[Optional[str]]
    first_line: int
    end: Position
    consumed: int

    def filled(self) -> List[str]:
        """The texts that there is something to encode in."""
        return [text for text in self.texts if text is not None and not is_blank(text)]


def is_blank(text: Optional[str]) -> bool:
    """Whether there is nothing to encode: the client's rule, and missing values."""
    return text is None or not text.strip()


def batches(source: "Source", start: Position, size: int, blank: str) -> Iterator[Batch]:
    """The rows from ``start`` on, at most ``size`` in each batch.

    Raises InputError for a blank text, unless ``blank`` is "zero".
    """
    texts: List[Optional[str]] = []
    characters = first_line = 0
    row: Optional[Row] = None
    for row in source.rows(start):
        if blank == "error" and is_blank(row.text):
            raise InputError(_blank_message(source.unit, row))
        if not texts:
            first_line = row.line
        texts.append(row.text)
        characters += len(row.text or "")
        if len(texts) >= size or characters >= BATCH_CHARACTERS:
            yield Batch(texts, first_line, row.end, source.consumed())
            texts, characters = [], 0
    if texts:
        assert row is not None
        yield Batch(texts, first_line, row.end, source.consumed())


def _blank_message(unit: str, row: Row) -> str:
    what = "has no text (null)" if row.text is None else "is blank: %r" % row.text[:40]
    return (
        "%s %d %s; there is nothing to encode in it: remove or fill it, or have zeros written for "
        "such rows by --blank zero" % (unit, row.line, what)
    )


class Source:
    """An input file that is open. ``unit`` is what errors count ("line", "row"); ``total`` is how
    large :meth:`consumed` is at the end.
    """

    unit = "line"
    total = 0

    def rows(self, start: Position) -> Iterable[Row]:
        """The rows from ``start`` on. Raises InputError for one that is no text, and BulkError."""
        raise NotImplementedError

    def consumed(self) -> int:
        """How much is read: bytes of the file as it lies on the disk, or rows."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError
