"""Where cached files go, and writing them so that nobody sees half of one."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, Union

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["PathLike", "atomic_write", "is_file", "locked", "replacing", "user_cache_dir"]

PathLike = Union[str, "os.PathLike[str]"]


def user_cache_dir() -> Path:
    """``$BERT_SERVING_CACHE``, else ``$XDG_CACHE_HOME/bert-serving``, else in ``~/.cache``."""
    own = os.environ.get("BERT_SERVING_CACHE")
    if own:
        return Path(own).expanduser()
    # The XDG base directory specification has relative paths ignored.
    general = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(general) if os.path.isabs(general) else Path("~/.cache").expanduser()
    return base / "bert-serving"


def is_file(path: Path) -> bool:
    """Whether there is such a file; no if there can't be one of that name."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # it is too long, or has a NUL
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Run the block while no other thread or process runs one with this lock file.

    The file stays: were it removed, one could lock the removed file and another a new one. The
    system gives the lock back when a process dies.
    """
    with path.open("ab") as file:
        if fcntl:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` if the block ends well, and else is removed."""
    temporary = path.with_name(".%s.%s" % (path.name, uuid.uuid4().hex))
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(str(temporary), str(path))
    finally:
        if temporary.exists():
            temporary.unlink()


def atomic_write(path: Path, text: str) -> None:
    """Write UTF-8 text to a file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
