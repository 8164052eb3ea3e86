"""The directory of a running service: its sockets, and what must not change under it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bert_serving.server.errors import StartupError
from bert_serving.server.spec import ServiceSpec

__all__ = ["Upkeep", "keep_vocabulary", "make_directory"]

#: The longest path of a Unix socket, of which zmq wants one byte.
MAX_SOCKET_PATH = 106
#: Seconds between two touches of what lies in the directory. The XDG Base Directory Specification
#: has programs do so every six hours, and says why.
TOUCH_INTERVAL = 3600.0


def make_directory() -> str:
    """A new directory for sockets that only this user may enter.

    Raises StartupError if its path is too long for one.
    """
    parent = os.environ.get("ZEROMQ_SOCK_TMP_DIR")
    if parent is not None and not os.path.isdir(parent):
        raise StartupError("ZEROMQ_SOCK_TMP_DIR names %s, which is no directory" % parent)
    directory = tempfile.mkdtemp(prefix="bert-serving-", dir=parent)
    if len(os.path.join(directory, "control")) > MAX_SOCKET_PATH:
        os.rmdir(directory)
        raise StartupError(
            "the path %s is too long for sockets in it; set ZEROMQ_SOCK_TMP_DIR to a directory "
            "with a short path" % directory
        )
    return directory


def keep_vocabulary(spec: ServiceSpec, directory: str) -> ServiceSpec:
    """The same service with a copy of its vocabulary.

    The model's directory may get another model's files while the service runs; a process that is
    replaced then has to work with what the others have. Graphs are safe in the cache.

    Raises StartupError.
    """
    if spec.vocabulary is None:
        return spec
    copy = Path(directory) / ("vocabulary-%d.txt" % spec.generation)
    try:
        shutil.copyfile(spec.vocabulary, str(copy))
    except OSError as error:
        raise StartupError("can't copy the vocabulary %s: %s" % (spec.vocabulary, error)) from error
    return replace(spec, vocabulary=str(copy))


class Upkeep:
    """Keeps the directory from being taken for abandoned.

    Many systems remove files from their directories for temporary files that weren't touched for
    some days. A ventilator that is started again after that would have no vocabulary.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._touched_at = time.monotonic()

    def look(self, now: float) -> None:
        """Touch what is in the directory, and itself, if it is time to."""
        if now < self._touched_at + TOUCH_INTERVAL:
            return
        self._touched_at = now
        with suppress(FileNotFoundError):  # it was removed by hand
            for name in os.listdir(self._directory):
                with suppress(FileNotFoundError):  # a process unbinds its sockets as it ends
                    os.utime(os.path.join(self._directory, name))
            os.utime(self._directory)
