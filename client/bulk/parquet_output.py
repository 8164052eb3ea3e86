"""Parquet outputs. Needs pyarrow.

Rows wait in ``OUT.partial`` (vectors) and ``OUT.partial.texts`` (a JSON string a line) and become
row groups in the end, for those of a Parquet file can't be cut where a run was interrupted.
"""

from __future__ import annotations

import json
from typing import IO, Any, Dict, List, Optional

import numpy as np

from bert_serving.client.bulk.errors import OutputError, UsageError
from bert_serving.client.bulk.files import AppendFile, Paths, put_in_place, writing
from bert_serving.client.bulk.npy import HEADER_BYTES
from bert_serving.client.bulk.outputs import Output
from bert_serving.client.bulk.packages import pyarrow

__all__ = ["ParquetOutput"]

#: Bytes of the vectors of a row group at most, and about those of its texts: whichever is first.
GROUP_BYTES = 16 << 20


class ParquetOutput(Output):
    """A column "embedding", lists of fixed size, after a column "text" if texts are kept."""

    def __init__(self, paths: Paths, dtype: str, keep: bool) -> None:
        self._arrow = pyarrow("to write Parquet")
        _check_type(self._arrow, dtype)
        super().__init__(paths, dtype)
        self._texts: Optional[AppendFile] = None
        if keep:
            try:
                self._texts = AppendFile(paths.texts)
            except BaseException:
                super().close()
                raise

    def begin(self, sizes: Dict[str, int], dimension: int) -> None:
        """See :meth:`Output.begin`."""
        super().begin(sizes, dimension)
        if self._texts is not None:
            self._texts.cut(sizes.get("texts", 0))

    def append(self, vectors: np.ndarray, texts: List[Optional[str]]) -> None:
        """See :meth:`Output.append`."""
        super().append(vectors, texts)
        if self._texts is not None:
            lines = [json.dumps(text) + "\n" for text in texts]
            self._texts.append("".join(lines).encode("ascii"))

    def sizes(self) -> Dict[str, int]:
        """See :meth:`Output.sizes`."""
        sizes = super().sizes()
        return sizes if self._texts is None else dict(sizes, texts=self._texts.size)

    def sync(self) -> None:
        """See :meth:`Output.sync`."""
        super().sync()
        if self._texts is not None:
            self._texts.sync()

    def close(self) -> None:
        """See :meth:`Output.close`."""
        super().close()
        if self._texts is not None:
            self._texts.close()

    def finish(self, rows: int, dimension: int) -> None:
        """See :meth:`Output.finish`."""
        import pyarrow.parquet as parquet

        final = self._paths.final
        schema = self._schema(dimension)
        group = max(1, GROUP_BYTES // (dimension * self._dtype.itemsize))
        # The numbers hardly get smaller, and none comes twice.
        options: Dict[str, Any] = {"compression": {"text": "snappy"}, "use_dictionary": ["text"]}
        if self._texts is None:
            options = {"compression": "none", "use_dictionary": False}
        try:
            with writing(final), parquet.ParquetWriter(
                str(final), schema, write_statistics=False, **options
            ) as writer, self._paths.partial.open("rb") as vectors:
                vectors.seek(HEADER_BYTES)
                texts = None if self._texts is None else self._paths.texts.open("rb")
                try:
                    while rows:
                        table = self._table(schema, vectors, texts, min(group, rows), dimension)
                        writer.write_table(table, row_group_size=table.num_rows)
                        rows -= table.num_rows
                finally:
                    if texts is not None:
                        texts.close()
        except self._arrow.ArrowException as error:
            raise OutputError("can't write %s: %s" % (final, error)) from error
        put_in_place(final, self._paths.out)

    def _schema(self, dimension: int) -> Any:
        arrow = self._arrow
        number = arrow.from_numpy_dtype(np.dtype(self._dtype))
        fields = [arrow.field("embedding", arrow.list_(number, dimension))]
        if self._texts is not None:
            fields.insert(0, arrow.field("text", arrow.string()))
        return arrow.schema(fields)

    def _table(
        self,
        schema: Any,
        vectors: IO[bytes],
        texts: Optional[IO[bytes]],
        most: int,
        dimension: int,
    ) -> Any:
        """The next ``most`` rows, or fewer if their texts are long."""
        columns = []
        if texts is not None:
            kept = _read_texts(texts, most)
            most = len(kept)
            columns.append(self._arrow.array(kept, self._arrow.string()))
        data = vectors.read(most * dimension * self._dtype.itemsize)
        flat = self._arrow.array(np.frombuffer(data, self._dtype))
        columns.append(self._arrow.FixedSizeListArray.from_arrays(flat, dimension))
        return self._arrow.Table.from_arrays(columns, schema=schema)


def _read_texts(file: IO[bytes], most: int) -> List[Optional[str]]:
    """The next ``most`` texts, or those with which their lines have GROUP_BYTES. Nothing but the
    texts decides that, so that an interrupted run makes the same file as any other.
    """
    texts: List[Optional[str]] = []
    size = 0
    while len(texts) < most and size < GROUP_BYTES:
        line = file.readline()
        texts.append(json.loads(line))
        size += len(line)
    return texts


def _check_type(arrow: Any, dtype: str) -> None:
    """Now, not after hours: only newer versions write float16 to Parquet. Raises UsageError."""
    import pyarrow.parquet as parquet

    number = arrow.from_numpy_dtype(np.dtype(dtype))
    schema = arrow.schema([arrow.field("embedding", arrow.list_(number, 1))])
    try:
        parquet.ParquetWriter(arrow.BufferOutputStream(), schema).close()
    except arrow.ArrowNotImplementedError as error:
        raise UsageError(
            "pyarrow %s can't write %s to Parquet: use --dtype float32, or a newer pyarrow"
            % (arrow.__version__, dtype)
        ) from error
