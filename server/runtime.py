"""The directory of a running service: its sockets, and what must not change under it."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bert_serving.server.errors import StartupError
from bert_serving.server.spec import ServiceSpec

__all__ = ["keep_vocabulary", "make_directory"]

#: The longest path of a Unix socket, of which zmq wants one byte.
MAX_SOCKET_PATH = 106


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
