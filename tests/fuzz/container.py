"""Several files, or frames, in one input: a line with name and size before each."""

from __future__ import annotations

import gzip
import io
from pathlib import Path, PurePosixPath
from typing import List, Sequence, Tuple

__all__ = ["Entry", "compressed", "pack", "unpack", "write_files"]

Entry = Tuple[str, bytes]


def pack(entries: Sequence[Entry]) -> bytes:
    """The input that has ``entries``."""
    return b"".join(
        ("%s %d\n" % (name, len(content))).encode("utf-8") + content + b"\n"
        for name, content in entries
    )


def compressed(content: bytes) -> bytes:
    """By gzip, and the same each time: without the time."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
        packed.write(content)
    return file.getvalue()


def unpack(data: bytes) -> List[Entry]:
    """The entries, as far as the input can be read."""
    entries = []
    while data:
        line, _, data = data.partition(b"\n")
        name, _, size = line.rpartition(b" ")
        if not size.isdigit() or len(size) > 9:
            break
        entries.append((name.decode("utf-8", "replace"), data[: int(size)]))
        data = data[int(size) + 1 :]
    return entries


def write_files(entries: Sequence[Entry], directory: Path) -> None:
    """Write entries that have the names of files below ``directory``."""
    for name, content in entries:
        relative = PurePosixPath(name)
        if "\0" in name or relative.is_absolute() or ".." in relative.parts or not relative.parts:
            continue
        if any(len(part) > 200 for part in relative.parts) or len(relative.parts) > 4:
            continue
        path = directory.joinpath(*relative.parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file where a directory must be, or the other way round
            continue
