"""Which format an input has, and what tells that it is still the same file."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any, Dict, Optional

from bert_serving.client.bulk.errors import UsageError
from bert_serving.client.bulk.rows import Source
from bert_serving.client.bulk.text_input import CsvSource, JsonLinesSource, TextSource

__all__ = ["INPUT_FORMATS", "fingerprint", "input_format", "open_source"]

INPUT_FORMATS = ("txt", "jsonl", "csv", "parquet")
HEAD_BYTES = 64 * 1024


def input_format(path: Path, named: Optional[str]) -> str:
    """One of INPUT_FORMATS: the one that is ``named``, or that of the file's name.

    Raises UsageError.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_packed = suffixes[-1:] == [".gz"]
    found = named or "".join(suffixes[:-1] if is_packed else suffixes).rpartition(".")[2]
    if found not in INPUT_FORMATS:
        raise UsageError(
            "the format of %s can't be told from its name: name it by --input_format %s"
            % (path, "|".join(INPUT_FORMATS))
        )
    if is_packed and found == "parquet":
        raise UsageError("%s: Parquet is compressed inside; unpack the .gz first" % path)
    return found


def open_source(path: Path, kind: str, column: Optional[str], delimiter: str) -> Source:
    """The input, of the format ``kind``. Raises UsageError."""
    if kind == "parquet":
        from bert_serving.client.bulk.parquet_input import ParquetSource

        return ParquetSource(path, column)
    if kind == "csv":
        return CsvSource(path, column, delimiter)
    if kind == "jsonl":
        return JsonLinesSource(path, column)
    return TextSource(path)


def fingerprint(path: Path) -> Dict[str, Any]:
    """Size, time of the last change, and a digest of the beginning. Raises UsageError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                "%s is not a file: a run that was interrupted couldn't read it again" % path
            )
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
    except OSError as error:
        raise UsageError("can't read %s: %s" % (path, error.strerror)) from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "head_sha256": head}
