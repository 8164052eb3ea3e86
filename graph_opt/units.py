"""Sizes for people."""

from __future__ import annotations

__all__ = ["human_bytes"]


def human_bytes(nbytes: int) -> str:
    """In decimal units, with three digits that count."""
    number, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    if unit == "B":
        return "%d B" % nbytes
    return "%.*f %s" % (0 if number >= 99.95 else 1 if number >= 9.995 else 2, number, unit)
