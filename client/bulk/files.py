"""Files that are written so that an interruption at any moment loses nothing that was committed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Iterator

from bert_serving.client.bulk.errors import OutputError, UsageError

__all__ = ["AppendFile", "Paths", "put_in_place", "remove", "write_durably", "writing"]


class Paths:
    """The files of a run: ``out`` at its end, those beside it until then.

    ``partial`` has what is encoded, ``texts`` those texts if they are kept for Parquet, ``final``
    the output while it is made of them, and ``progress`` says how much of it counts.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.partial = _beside(out, ".partial")
        self.texts = _beside(out, ".partial.texts")
        self.final = _beside(out, ".partial.final")
        self.progress = _beside(out, ".progress")

    def clean_up(self) -> None:
        """Remove what an output that is in its place doesn't need; the progress last."""
        for path in (self.partial, self.texts, self.final, self.progress):
            remove(path)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


class AppendFile:
    """A file that grows, and can be cut to what was committed.

    Only one process can have it open; another gets UsageError. Not buffered: the caller writes
    whole batches, and none of them may be waiting when it is told that it is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        with writing(path):
            self._file = _open_locked(path)
            try:
                self.size = self._file.seek(0, os.SEEK_END)
            except BaseException:
                self._file.close()
                raise

    def cut(self, size: int) -> None:
        """Drop what is behind ``size``. Raises UsageError if the file is shorter."""
        if size > self.size:
            raise UsageError(
                "%s has %d bytes, but %d were written: it was changed or damaged; begin anew by "
                "--restart" % (self.path, self.size, size)
            )
        with writing(self.path):
            self._file.truncate(size)
            self.size = self._file.seek(size)

    def append(self, data: Any) -> None:
        """Write ``data`` (bytes, or a contiguous array's memory) to the end."""
        self._write(data)
        self.size = self._file.tell()

    def overwrite(self, data: bytes) -> None:
        """Write ``data`` to the beginning."""
        with writing(self.path):
            self._file.seek(0)
        self._write(data)
        with writing(self.path):
            self._file.seek(self.size)

    def _write(self, data: Any) -> None:
        rest = memoryview(data).cast("B")
        with writing(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Return when everything is on the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and let others have it."""
        self._file.close()


def _open_locked(path: Path) -> Any:
    """The file at ``path``, or a new one there, which is locked. Raises UsageError, and OSError."""
    while True:
        file = os.fdopen(os.open(str(path), os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0)
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        # Who had it locked has put it in its place, or removed it, since it was opened here.
        file.close()


def _is_at(file: Any, path: Path) -> bool:
    """Whether an open file is the one at ``path``. Raises OSError."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(str(path)))
    except FileNotFoundError:
        return False


def _lock(file: Any, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError("another process is writing %s: wait for it" % path) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the operating system become OutputErrors that name ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError("can't write %s: %s" % (path, error.strerror or error)) from error


def write_durably(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path``; an interruption leaves the old content or the new."""
    new = _beside(path, ".new")
    with writing(new), new.open("wb") as file:
        file.write(data)
    put_in_place(new, path)


def put_in_place(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``, with everything on the disk before and after."""
    with writing(path):
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(str(new), str(path))
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(str(directory), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file that needn't be there."""
    with writing(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
