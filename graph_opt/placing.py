"""Writing an optimized graph where the user wants it: whole, or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Tuple

from bert_serving.graph_opt import targets
from bert_serving.graph_opt.errors import GraphOptError, OptionError
from bert_serving.graph_opt.graph import Graph

__all__ = ["check_output", "place"]

_SAVED_MODEL = "saved_model.pb"


def check_output(output: Path, target: str, model: Path) -> None:
    """Find out before the work whether its result could be written.

    Raises:
        OptionError: the path is of the wrong kind, or it is the model itself.
    """
    if not output.parent.is_dir():
        raise OptionError("can't write %s: %s is no directory" % (output, output.parent))
    if not os.access(str(output.parent), os.W_OK | os.X_OK):
        raise OptionError(
            "can't write %s: you may not write to the directory %s" % (output, output.parent)
        )
    if model.exists() and output.exists() and model.resolve() == output.resolve():
        raise OptionError(
            "%s is the model itself, which would be lost: name another output" % output
        )
    if target != "savedmodel":
        if output.is_dir():
            raise OptionError(
                "%s is a directory, and the target %s is a file: name the file" % (output, target)
            )
        return
    if output.exists() and not output.is_dir():
        raise OptionError("%s is a file, and the target savedmodel is a directory" % output)
    if output.is_dir() and any(output.iterdir()) and not (output / _SAVED_MODEL).is_file():
        raise OptionError(
            "the directory %s holds something other than a SavedModel: name a new one" % output
        )


def place(graph: Graph, output: Path, target: str) -> Tuple[Path, ...]:
    """Write a graph's files beside their place and move them there when all are complete.

    What was at ``output`` before stays there on an error, and is replaced otherwise. Returns the
    files, the model first.

    Raises:
        GraphOptError: the disk is full, or something else about the file system; or as
            :func:`bert_serving.graph_opt.targets.write`.
    """
    temporary = output.with_name(".%s.%s" % (output.name, uuid.uuid4().hex))
    try:
        temporary.mkdir()
        # Under the same names: an ONNX model names the file of its weights.
        written = targets.write(graph, temporary / output.name, target)
        relative = [path.relative_to(temporary) for path in written]
        if target == "savedmodel":
            _replace_directory(temporary, output)
        else:
            # The model last, so that it never names weights that aren't there.
            for path in reversed(relative):
                os.replace(str(temporary / path), str(output.with_name(str(path))))
    except OSError as error:
        raise GraphOptError(
            "can't write %s: %s; nothing of it was left there" % (output, error.strerror or error)
        ) from error
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)
    return tuple(output.parent / path for path in relative)


def _replace_directory(temporary: Path, output: Path) -> None:
    """Put a finished directory in the place of an older one, or put the older one back."""
    older = temporary / "older"
    if output.exists():
        os.rename(str(output), str(older))
    try:
        os.rename(str(temporary / output.name), str(output))
    except BaseException:
        if older.exists():
            os.rename(str(older), str(output))
        raise
