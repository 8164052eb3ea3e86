"""The outputs: arrays of NumPy (npy, npz) and JSON lines; Parquet is in its own module.

Each appends to files that can be cut at any row, and makes the output of them in the end. So the
output doesn't depend on where a run was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from bert_serving.client.bulk.errors import OutputError, UsageError
from bert_serving.client.bulk.files import AppendFile, Paths, put_in_place, writing
from bert_serving.client.bulk.npy import npy_header

__all__ = [
    "KEEPING_FORMATS",
    "OUTPUT_FORMATS",
    "JsonLinesOutput",
    "NpyOutput",
    "NpzOutput",
    "Output",
    "open_output",
    "output_format",
]

OUTPUT_FORMATS = ("npy", "npz", "parquet", "jsonl")
#: What can hold texts beside the vectors.
KEEPING_FORMATS = ("parquet", "jsonl")
#: Digits that tell any two numbers of a type apart.
DIGITS = {"float32": 9, "float16": 5}
COPY_BYTES = 1 << 20


def output_format(path: Path) -> str:
    """One of OUTPUT_FORMATS, by the file's name. Raises UsageError."""
    found = path.suffix.lower()[1:]
    if found not in OUTPUT_FORMATS:
        raise UsageError(
            "the name of the output must end in %s, but it is %s"
            % (", ".join("." + name for name in OUTPUT_FORMATS), path)
        )
    return found


class Output:
    """Vectors in ``OUT.partial``, as the array of an npy file. ``dtype`` is little-endian.

    Methods raise OutputError.
    """

    def __init__(self, paths: Paths, dtype: str) -> None:
        self._paths = paths
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._dimension: Optional[int] = None
        self._vectors = AppendFile(paths.partial)

    def begin(self, sizes: Dict[str, int], dimension: int) -> None:
        """Go on where the files have ``sizes``; none: at the beginning. Raises UsageError."""
        self._vectors.cut(sizes.get("vectors", 0))
        self._dimension = dimension
        self._write_head()

    def _write_head(self) -> None:
        if not self._vectors.size:
            assert self._dimension is not None
            self._vectors.append(npy_header(0, self._dimension, self._dtype))

    def append(self, vectors: np.ndarray, texts: List[Optional[str]]) -> None:
        """Add rows: ``vectors``, [rows, dimension], and the texts that they are of."""
        self._vectors.append(self._converted(vectors).data)

    def _converted(self, vectors: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(vectors, self._dtype)
        # It may be the server that converted them.
        if self._dtype.itemsize == 2 and np.isinf(converted).any():
            raise OutputError(
                "the vectors have numbers that are too large for float16: use --dtype float32"
            )
        return converted

    def sizes(self) -> Dict[str, int]:
        """The bytes of each file."""
        return {"vectors": self._vectors.size}

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        self._vectors.sync()

    def finish(self, rows: int, dimension: int) -> None:
        """Put the output in its place; done again after an interruption, the result is the same."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the files."""
        self._vectors.close()


class NpyOutput(Output):
    """A float array of shape [rows, dimension], which numpy can also map into memory."""

    def finish(self, rows: int, dimension: int) -> None:
        """See :meth:`Output.finish`."""
        self._vectors.overwrite(npy_header(rows, dimension, self._dtype))
        put_in_place(self._paths.partial, self._paths.out)


class NpzOutput(Output):
    """The array ``embeddings`` in a zip archive, not compressed, for vectors hardly get smaller."""

    def finish(self, rows: int, dimension: int) -> None:
        """See :meth:`Output.finish`."""
        self._vectors.overwrite(npy_header(rows, dimension, self._dtype))
        # With a fixed date the same vectors give the same file.
        member = zipfile.ZipInfo("embeddings.npy", (1980, 1, 1, 0, 0, 0))
        final = self._paths.final
        with contextlib.ExitStack() as stack:
            stack.enter_context(writing(final))
            source = stack.enter_context(self._paths.partial.open("rb"))
            archive = stack.enter_context(zipfile.ZipFile(str(final), "w", zipfile.ZIP_STORED))
            target = stack.enter_context(archive.open(member, "w", force_zip64=True))
            shutil.copyfileobj(source, target, COPY_BYTES)
        put_in_place(final, self._paths.out)


class JsonLinesOutput(Output):
    """A line {"embedding": [...]} for each row, with its "text" before if that is kept."""

    def __init__(self, paths: Paths, dtype: str, keep: bool) -> None:
        super().__init__(paths, dtype)
        self._keep = keep
        self._number = "%%.%dg" % DIGITS[dtype]

    def _write_head(self) -> None:
        """There is none."""

    def append(self, vectors: np.ndarray, texts: List[Optional[str]]) -> None:
        """See :meth:`Output.append`."""
        vectors = self._converted(vectors)
        if not np.isfinite(vectors).all():
            raise OutputError("the vectors have NaN or infinity, which JSON has no numbers for")
        form = "[%s]}\n" % ", ".join([self._number] * vectors.shape[1])
        lines = []
        for text, row in zip(texts, vectors.tolist()):
            begin = "{"
            if self._keep:
                begin += '"text": %s, ' % json.dumps(text, ensure_ascii=False)
            lines.append(begin + '"embedding": ' + form % tuple(row))
        self._vectors.append("".join(lines).encode("utf-8"))

    def finish(self, rows: int, dimension: int) -> None:
        """See :meth:`Output.finish`."""
        put_in_place(self._paths.partial, self._paths.out)


def open_output(paths: Paths, kind: str, dtype: str, keep: bool) -> Output:
    """The output of the format ``kind``. Raises UsageError and OutputError."""
    if kind == "parquet":
        from bert_serving.client.bulk.parquet_output import ParquetOutput

        return ParquetOutput(paths, dtype, keep)
    if kind == "jsonl":
        return JsonLinesOutput(paths, dtype, keep)
    return (NpzOutput if kind == "npz" else NpyOutput)(paths, dtype)
