"""Finding the vocabulary that both layouts keep in ``vocab.txt``."""

from __future__ import annotations

from pathlib import Path

from bert_serving.graph_opt.errors import ModelError

__all__ = ["find_vocabulary"]

VOCABULARY = "vocab.txt"


def find_vocabulary(directory: Path) -> Path:
    """The path of ``vocab.txt``.

    Raises:
        ModelError: it isn't there, or empty.
    """
    path = directory / VOCABULARY
    if not path.is_file():
        raise ModelError(
            "%s is missing: the model's WordPiece vocabulary, one token a line, belongs there"
            % path
        )
    if path.stat().st_size == 0:
        raise ModelError("%s is empty" % path)
    return path
