"""Inputs that are read line by line: plain text, JSON lines and CSV, also compressed by gzip."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import IO, Any, Iterator, List, Optional

from bert_serving.client.bulk.errors import BulkError, InputError, UsageError
from bert_serving.client.bulk.rows import START, Position, Row, Source

__all__ = ["CsvSource", "JsonLinesSource", "TextSource"]

#: The most bytes of a line, so that a file without line breaks doesn't take all memory.
MAX_LINE_BYTES = 16 << 20
BOM = b"\xef\xbb\xbf"
BUFFER_BYTES = 1 << 20
#: The column of a table, and the key of JSON objects, if none is named.
DEFAULT_COLUMN = "text"


class LineSource(Source):
    """Lines of UTF-8, with the position behind the last one. Raises BulkError if it can't open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: IO[bytes] = path.open("rb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise UsageError("can't read %s: %s" % (path, error.strerror)) from error
        self._stream: IO[bytes] = self._file
        if path.suffix.lower() == ".gz":
            unpacked: Any = gzip.GzipFile(fileobj=self._file, mode="rb")
            self._stream = io.BufferedReader(unpacked, BUFFER_BYTES)
        self.total = path.stat().st_size
        self.position = START

    def seek(self, position: Position) -> None:
        """Go on from ``position``; in a compressed file by reading all before it."""
        try:
            self._stream.seek(position.offset)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error
        self.position = position

    def line(self) -> str:
        """The next line with its line break; "" at the end."""
        try:
            raw = self._stream.readline(MAX_LINE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error
        offset, number = self.position
        if not raw:
            return ""
        if len(raw) > MAX_LINE_BYTES:
            raise InputError(
                "line %d is longer than %d MiB: is %s a file of one text a line?"
                % (number + 1, MAX_LINE_BYTES >> 20, self._path)
            )
        self.position = Position(offset + len(raw), number + 1)
        if offset == 0 and raw.startswith(BOM):
            raw = raw[len(BOM) :]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                "line %d is not UTF-8: byte 0x%02x at place %d in %r; convert the file, e.g. by "
                "iconv -f latin1 -t utf-8"
                % (number + 1, raw[error.start], error.start, _around(raw, error.start))
            ) from error

    def consumed(self) -> int:
        """See :meth:`Source.consumed`."""
        return self.position.offset if self._stream is self._file else self._file.tell()

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._stream.close()
        self._file.close()

    def _unreadable(self, error: Exception) -> BulkError:
        return BulkError(
            "can't read %s behind line %d: %s" % (self._path, self.position.line, error)
        )


class TextSource(LineSource):
    """A text a line; LF and CR LF end lines, nothing else does."""

    def rows(self, start: Position) -> Iterator[Row]:
        """See :meth:`Source.rows`."""
        self.seek(start)
        while True:
            line = self.line()
            if not line:
                return
            yield Row(without_break(line), self.position.line, self.position)


class JsonLinesSource(LineSource):
    """A line is a JSON object with the text under the key ``column``, or a JSON string."""

    def __init__(self, path: Path, column: Optional[str]) -> None:
        super().__init__(path)
        self._column = DEFAULT_COLUMN if column is None else column

    def rows(self, start: Position) -> Iterator[Row]:
        """See :meth:`Source.rows`; a line without anything in it is a blank text."""
        self.seek(start)
        while True:
            line = self.line()
            if not line:
                return
            text = self._text(line) if line.strip() else ""
            yield Row(text, self.position.line, self.position)

    def _text(self, line: str) -> Optional[str]:
        number = self.position.line
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                "line %d is not JSON (%s): %r" % (number, error, line.strip()[:60])
            ) from error
        if isinstance(value, dict):
            if self._column not in value:
                raise InputError(
                    "line %d has no %r, but %s: name one by --column"
                    % (number, self._column, listed(value))
                )
            value = value[self._column]
        elif not isinstance(value, str):
            raise InputError(
                "line %d must be a JSON object or a string, but is %.60r" % (number, value)
            )
        if value is not None and not isinstance(value, str):
            raise InputError(
                "line %d: %r must be a string, but is %.60r" % (number, self._column, value)
            )
        # Only an escape can make half a character.
        if value is not None and "\\u" in line:
            _check_whole(value, number)
        return value


class CsvSource(LineSource):
    """A table with a header; fields in quotes may have line breaks. Empty lines are no rows."""

    def __init__(self, path: Path, column: Optional[str], delimiter: str) -> None:
        super().__init__(path)
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        self._delimiter = delimiter
        try:
            header = next(self._records(), None)
            if header is None:
                raise InputError("%s is empty: a CSV file needs a header" % path)
            self._columns = len(header)
            self._column = choose_column(header, column, path)
        except BulkError as error:
            self.close()
            raise UsageError(str(error)) from error
        self._first = self.position

    def rows(self, start: Position) -> Iterator[Row]:
        """See :meth:`Source.rows`."""
        self.seek(max(start, self._first))
        before = self.position.line
        for fields in self._records():
            if len(fields) not in (0, self._columns):
                raise InputError(
                    "line %d has %d fields, but the header has %d: is a %r in a field without "
                    "quotes around it?" % (before + 1, len(fields), self._columns, self._delimiter)
                )
            if fields:
                yield Row(fields[self._column], before + 1, self.position)
            before = self.position.line

    def _records(self) -> Iterator[List[str]]:
        """Records from the position on. The reader takes no line more than a record has, so the
        position is that behind the record.
        """
        reader = csv.reader(iter(self.line, ""), delimiter=self._delimiter, strict=True)
        while True:
            begin = self.position.line
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError("line %d can't be read as CSV: %s" % (begin + 1, error)) from error
            yield fields


def without_break(line: str) -> str:
    if line.endswith("\n"):
        line = line[:-1]
    return line[:-1] if line.endswith("\r") else line


def choose_column(columns: List[str], wanted: Optional[str], path: Path) -> int:
    """The place of the column that was asked for, or else of "text", or of the only one.

    Raises UsageError.
    """
    name = DEFAULT_COLUMN if wanted is None and len(columns) > 1 else wanted
    if name is None:
        return 0
    found = [place for place, column in enumerate(columns) if column == name]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        "%s has %s column %r, but %s: name one by --column"
        % (path, "more than one" if found else "no", name, listed(columns))
    )


def listed(names: Any) -> str:
    """At most 20 of ``names``, for a message."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "") or "nothing"


def _around(raw: bytes, place: int) -> bytes:
    return raw[max(place - 20, 0) : place + 20]


def _check_whole(text: str, number: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            "line %d has half a character (\\u%04x at place %d), which no UTF-8 file can hold: "
            "was the text cut there?" % (number, ord(text[error.start]), error.start)
        ) from error
