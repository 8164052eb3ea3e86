"""Reading safetensors files, tensor by tensor, with the ``safetensors`` package."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Dict

import numpy as np

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable

__all__ = ["read_safetensors"]

# What can become float32.
_DTYPES = ("F64", "F32", "F16", "BF16")


def read_safetensors(path: Path) -> Dict[str, Variable]:
    """Tensor name -> variable, from the header only: float32, or void if it isn't of floats.

    Raises:
        ModelError: the file is missing, cut off or damaged; the message names it.
    """
    variables = {}
    with _open(path) as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            about = file.get_slice(name)
            stored = about.get_dtype()
            dtype = np.dtype("float32" if stored in _DTYPES else "void")
            load = partial(_load, path, name, stored)
            variables[name] = Variable(name, tuple(about.get_shape()), dtype, load)
    return variables


def _open(path: Path) -> Any:
    """The file, its header read and found to fit the file's size."""
    import safetensors

    try:
        return safetensors.safe_open(str(path), framework="np")
    except OSError as error:
        raise ModelError("can't read %s: %s" % (path, error.strerror or error)) from error
    except safetensors.SafetensorError as error:
        raise ModelError(
            "%s isn't a safetensors file, or is cut off or damaged (%s); download it again"
            % (path, error)
        ) from error


def _load(path: Path, name: str, stored: str) -> np.ndarray:
    """The tensor as float32."""
    if stored == "BF16":
        _know_bfloat16(path, name)
    with _open(path) as file:
        return np.asarray(file.get_tensor(name), np.float32)


def _know_bfloat16(path: Path, name: str) -> None:
    """Teach numpy the dtype, which it doesn't have of its own."""
    try:
        import ml_dtypes  # noqa: F401 - importing it is what teaches numpy
    except ImportError as error:
        raise ModelError(
            "%s: the tensor %r is bfloat16, which needs the package ml_dtypes (Python 3.9 or "
            "later): pip install ml_dtypes" % (path, name)
        ) from error
