"""What ends a run early; each message is one for the user.

::

    BulkError            the run failed; exit status 1
    +-- UsageError       it can't run as asked; exit status 2
    +-- InputError       a row of the input is no text
    +-- OutputError      the output can't be written
"""

from __future__ import annotations

__all__ = ["BulkError", "InputError", "OutputError", "UsageError"]


class BulkError(Exception):
    """The run failed; ``status`` is the command's exit status."""

    status = 1


class UsageError(BulkError):
    """The command can't run as asked."""

    status = 2


class InputError(BulkError):
    """A row of the input is no text; the message names its line."""


class OutputError(BulkError):
    """The output can't be written."""
