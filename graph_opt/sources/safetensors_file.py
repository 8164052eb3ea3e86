"""Reading safetensors files with numpy alone, tensor by tensor.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length of a JSON header;
the header: name -> dtype, shape, data_offsets within what follows. Read here rather than with the
``safetensors`` package because that one's numpy interface has no bfloat16 and copies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable

__all__ = ["read_safetensors"]

# What can become float32. numpy has no bfloat16: it is the upper half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER = 100 * 1024 * 1024  # as in the reference implementation


@dataclass(frozen=True)
class _Entry:
    path: Path
    name: str
    stored: str
    shape: Tuple[int, ...]
    offset: int  # from the start of the file


def read_safetensors(path: Path) -> Dict[str, Variable]:
    """Tensor name -> variable, from the header only: float32, or void if it isn't of floats.

    Raises:
        ModelError: the file is missing, cut off or damaged; the message names it.
    """
    header, start = _header(path)
    size = path.stat().st_size
    variables = {}
    for name, value in header.items():
        if name == "__metadata__":
            continue
        entry, end = _entry(path, name, value, start)
        if end > size:
            raise ModelError(
                "%s is cut off: the tensor %r ends at byte %d, the file at %d; download it again"
                % (path, name, end, size)
            )
        dtype = np.dtype("float32" if entry.stored in _DTYPES else "void")
        variables[name] = Variable(name, entry.shape, dtype, partial(_load, entry))
    return variables


def _header(path: Path) -> Tuple[Dict[str, Any], int]:
    """The parsed header, and where the data start."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= _MAX_HEADER:
                raise ModelError("%s isn't a safetensors file, or is damaged" % path)
            text = file.read(length)
    except OSError as error:
        raise ModelError("can't read %s: %s" % (path, error.strerror or error)) from error
    if len(text) < length:
        raise ModelError("%s is cut off inside its header; download it again" % path)
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise ModelError("%s is damaged: its header isn't JSON (%s)" % (path, error)) from error
    if not isinstance(header, dict):
        raise ModelError("%s is damaged: its header isn't a JSON object" % path)
    return header, 8 + length


def _entry(path: Path, name: str, value: Any, start: int) -> Tuple[_Entry, int]:
    """One tensor's place, and where it ends."""
    try:
        stored = str(value["dtype"])
        shape = tuple(int(size) for size in value["shape"])
        first, last = (int(offset) for offset in value["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            "%s is damaged: its header misdescribes the tensor %r" % (path, name)
        ) from error
    expected = _SIZES.get(stored, 0)
    for size in shape:
        expected *= size
    if first < 0 or last < first or min(shape + (0,)) < 0:
        raise ModelError("%s is damaged: the tensor %r lies outside the file" % (path, name))
    if stored in _DTYPES and last - first != expected:
        raise ModelError(
            "%s is damaged: the tensor %r of %s %s has %d bytes"
            % (path, name, stored, list(shape), last - first)
        )
    return _Entry(path, name, stored, shape, start + first), start + last


def _load(entry: _Entry) -> np.ndarray:
    """The tensor as float32; mapped, not copied, where it is stored as such."""
    try:
        # A map of nothing is an error to the system.
        if 0 in entry.shape:
            return np.zeros(entry.shape, np.float32)
        dtype = np.dtype(_DTYPES[entry.stored])
        array: np.ndarray = np.memmap(
            str(entry.path), dtype, "r", entry.offset, entry.shape or (1,)
        )
    except (OSError, ValueError) as error:
        raise ModelError("can't read %s: %s" % (entry.path, error)) from error
    array = array.reshape(entry.shape)
    if entry.stored == "BF16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.asarray(array, np.float32)
