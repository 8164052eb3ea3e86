"""Parquet inputs, read batch by batch. Needs pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional

from bert_serving.client.bulk.errors import BulkError, UsageError
from bert_serving.client.bulk.packages import pyarrow
from bert_serving.client.bulk.rows import Position, Row, Source
from bert_serving.client.bulk.text_input import choose_column

__all__ = ["ParquetSource"]

#: Rows decoded at a time. Strings without bound may be in them, so they are few.
READ_ROWS = 512
BUFFER_BYTES = 1 << 20


class ParquetSource(Source):
    """The strings of one column; a position's offset is a number of rows."""

    unit = "row"

    def __init__(self, path: Path, column: Optional[str]) -> None:
        arrow = pyarrow("to read Parquet")
        import pyarrow.parquet as parquet

        self._path = path
        # The last is for names and texts that aren't UTF-8.
        self._failures = (arrow.ArrowException, OSError, UnicodeDecodeError)
        try:
            # With a buffer it streams; without, it reads a whole row group.
            self._file = parquet.ParquetFile(str(path), buffer_size=BUFFER_BYTES)
        except self._failures as error:
            raise UsageError("can't read %s as Parquet: %s" % (path, error)) from error
        self.total = self._file.metadata.num_rows
        self._read = 0
        try:
            schema = self._file.schema_arrow
            place = choose_column(schema.names, column, path)
            self._column = schema.names[place]
            if not _is_string(arrow, schema.field(place).type):
                raise UsageError(
                    "the column %r of %s must have strings, but has %s: name another by --column"
                    % (self._column, path, schema.field(place).type)
                )
        except self._failures as error:
            self.close()
            raise UsageError("can't read %s as Parquet: %s" % (path, error)) from error
        except UsageError:
            self.close()
            raise

    def rows(self, start: Position) -> Iterator[Row]:
        """See :meth:`Source.rows`. Row groups before ``start`` aren't read."""
        metadata = self._file.metadata
        before, group = 0, 0
        while group < metadata.num_row_groups:
            rows = metadata.row_group(group).num_rows
            if before + rows > start.offset:
                break
            before, group = before + rows, group + 1
        number = self._read = before
        for values in self._values(range(group, metadata.num_row_groups)):
            self._read += len(values)
            for value in values:
                number += 1
                if number > start.offset:
                    yield Row(value, number, Position(number, number))

    def _values(self, groups: Any) -> Iterator[Any]:
        if not groups:
            return
        try:
            for batch in self._file.iter_batches(
                READ_ROWS, row_groups=list(groups), columns=[self._column], use_threads=False
            ):
                yield batch.column(0).to_pylist()
        except self._failures as error:
            raise BulkError(
                "can't read %s behind row %d: %s" % (self._path, self._read, error)
            ) from error

    def consumed(self) -> int:
        """See :meth:`Source.consumed`."""
        return self._read

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._file.close()


def _is_string(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))
