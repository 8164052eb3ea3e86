"""What keeps a benchmark from running; messages are for the user."""

from __future__ import annotations

__all__ = ["BenchmarkError"]


class BenchmarkError(Exception):
    """The benchmark can't run as asked; the message says why, and the way out."""
