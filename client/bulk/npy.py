"""NumPy's file format (numpy.lib.format, version 1.0), with a header of fixed size.

The number of rows stands in the header, but is known in the end only: it is written again then.
"""

from __future__ import annotations

import numpy as np

__all__ = ["HEADER_BYTES", "npy_header"]

#: A multiple of 64, as the format wants it, and enough for any two numbers.
HEADER_BYTES = 128
_MAGIC = b"\x93NUMPY\x01\x00"


def npy_header(rows: int, dimension: int, dtype: np.dtype) -> bytes:
    """The header of a little-endian array of shape [rows, dimension]."""
    description = "{'descr': '%s', 'fortran_order': False, 'shape': (%d, %d), }" % (
        dtype.newbyteorder("<").str,
        rows,
        dimension,
    )
    length = HEADER_BYTES - len(_MAGIC) - 2
    padded = description.ljust(length - 1) + "\n"
    assert len(padded) == length
    return _MAGIC + length.to_bytes(2, "little") + padded.encode("ascii")
